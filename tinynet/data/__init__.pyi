# ruff: noqa: I001  (several names to a line)
from .augment import Affine as Affine, BrightnessContrast as BrightnessContrast, Compose as Compose
from .augment import GaussianBlur as GaussianBlur, GaussianNoise as GaussianNoise, Invert as Invert, Stain as Stain
from .augment import mirrored as mirrored
from .blood_cells import Smear as Smear, read_blood_cells as read_blood_cells, synthetic_smear as synthetic_smear
from .chest_xray import chest_xrays_or_synthetic as chest_xrays_or_synthetic, read_chest_xrays as read_chest_xrays
from .chest_xray import synthetic_chest_xrays as synthetic_chest_xrays
from .crops import NucleiCrops as NucleiCrops
from .deformed import deformed_volumes as deformed_volumes
from .download import data_path as data_path, fetch as fetch, find_data as find_data
from .ecg import Recording as Recording, mitbih_100 as mitbih_100, read_ecg as read_ecg, synthetic_ecg as synthetic_ecg
from .eight_bits import to_rgb8 as to_rgb8
from .files import DataError as DataError, ImageFiles as ImageFiles
from .histology import StainedSlice as StainedSlice, common_landmarks as common_landmarks
from .histology import read_stained_slices as read_stained_slices
from .histology import synthetic_stained_slices as synthetic_stained_slices
from .knees import (
    knees_or_synthetic as knees_or_synthetic,
    read_knees as read_knees,
    synthetic_knees as synthetic_knees,
)
from .loader import AugmentedImages as AugmentedImages, DataLoader as DataLoader
from .maps import binary_map as binary_map, border_map as border_map, distance_map as distance_map, targets as targets
from .medmnist import read_breastmnist as read_breastmnist, read_medmnist as read_medmnist
from .mnist import ImageSet as ImageSet, handwritten_digits as handwritten_digits, read_idx as read_idx
from .microscopy import Plane as Plane, read_planes as read_planes
from .mnist import read_mnist as read_mnist
from .nuclei import Sample as Sample, example_nuclei as example_nuclei, image_kind as image_kind
from .nuclei import normalize as normalize, read_images as read_images
from .nuclei import hold_out as hold_out, read_nuclei as read_nuclei, split as split
from .nuclei import validation_ids as validation_ids
from .ontology import Ontology as Ontology, read_ontology as read_ontology
from .ontology import synthetic_ontology as synthetic_ontology
from .stain_pairs import StainPair as StainPair, stain_pair as stain_pair
from .synthetic import synthetic_nuclei as synthetic_nuclei
from .tables import Table as Table, bundled as bundled, cleveland as cleveland, dermatology as dermatology
from .tables import read_table as read_table, standardize as standardize, stratified_folds as stratified_folds
from .templates import mni_template as mni_template, synthetic_template as synthetic_template
from .vessels import Retina as Retina, read_vessels as read_vessels, split_children as split_children
from .vessels import synthetic_retina as synthetic_retina
from .volumes import Volume as Volume, hippocampus_or_synthetic as hippocampus_or_synthetic
from .volumes import normalize_volume as normalize_volume, pad_or_crop as pad_or_crop
from .volumes import read_hippocampus as read_hippocampus, read_volume as read_volume, split_volumes as split_volumes
from .volumes import stack_volumes as stack_volumes, synthetic_volumes as synthetic_volumes
