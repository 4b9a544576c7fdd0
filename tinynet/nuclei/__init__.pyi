# ruff: noqa: I001  (several names to a line)
from .looks import doubt as doubt, looks_of as looks_of, measures as measures, unlike as unlike
from .net import Net as Net, load_net as load_net
from .segmentation import Nuclei as Nuclei, segment as segment, segment_many as segment_many
from .torch_weights import from_torch as from_torch, to_torch as to_torch
