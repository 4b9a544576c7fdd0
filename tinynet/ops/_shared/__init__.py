"""What the operations share in every tier: checks, geometry, cases."""
