"""From predicted maps to nuclei and boxes: segmentation, instances, measurements, scores and figures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, ["boxes", "checks", "instances", "intensity", "metrics", "registration", "segment", "viz"]
)
