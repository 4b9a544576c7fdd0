"""Everything that the nuclei tool writes: into one folder, complete at any time, readable by other programs.

    from tinynet.nuclei.outputs import Result, Tables

    with Tables("results") as tables:                        # at its end: measurements.csv and summary.html
        for plane in read_planes(["images"]):
            if not tables.has(plane.name):                   # an interrupted run goes on where it stopped
                image = to_rgb8(plane.pixels)
                found = segment_many(net, [image])[0]
                tables.add(Result(plane, image, found.labels, found.doubt))

| file                       | what                                                                  | opened by      |
|----------------------------|-----------------------------------------------------------------------|----------------|
| `labels/NAME.tif`          | label image: 0 is background, 1, 2, ... are the nuclei; pixel size    | ImageJ, napari |
| `overlays/NAME.png`        | the image with outlines, at most 4,096 pixels a side                  | anything       |
| `rois/NAME.zip`            | one selection for each nucleus, named by its number                   | ImageJ, Fiji   |
| `geojson/NAME.geojson`     | outlines along the edges of pixels, with the measurements             | QuPath         |
| `measurements.csv`         | a row for each nucleus of all images                                  | spreadsheets   |
| `summary.html`             | a row for each image: thumbnail, figures, warnings; histogram         | a browser      |
| `submission.csv`           | Kaggle's run lengths; only if asked for                               | Kaggle         |
| `results/NAME.json`        | what the tables need to know about one image                          | tinynet        |

Files appear whole or not at all. `results/NAME.json` is written last: it marks that an image is done. The tables are
made from these files, so they hold the images of all runs into a folder, also after Ctrl-C or a full disk.
"""

from .geojson import write_geojson
from .images import overlay_for_screen, write_labels
from .outlines import nucleus_outlines, outlines
from .results import FORMATS, Result, write_results
from .rois import write_rois
from .tables import Tables
