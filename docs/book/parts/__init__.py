"""The parts of the site: each module makes the pages of one chapter."""
