"""Reading, augmenting and making images with their labels. Names are imported when first used."""

import importlib

# Public name -> the module it lives in.
_HOME = {
    "files": ["DataError", "ImageFiles", "to_rgb8"],
    "maps": ["binary_map", "border_map", "distance_map", "targets"],
    "augment": ["Compose", "Affine", "BrightnessContrast", "Stain", "Invert", "GaussianNoise", "GaussianBlur"],
    "crops": ["NucleiCrops"],
    "loader": ["DataLoader"],
    "synthetic": ["synthetic_nuclei"],
    "ecg": ["Recording", "mitbih_100", "read_ecg", "synthetic_ecg"],
    "download": ["data_path", "fetch", "find_data"],
    "mnist": ["ImageSet", "handwritten_digits", "read_idx", "read_mnist"],
    "medmnist": ["read_breastmnist", "read_medmnist"],
    "chest_xray": ["read_chest_xrays", "synthetic_chest_xrays"],
    "tables": ["Table", "bundled", "cleveland", "dermatology", "read_table", "standardize", "stratified_folds"],
    "nuclei": ["Sample", "read_nuclei", "read_images", "image_kind", "normalize", "split", "validation_ids"],
}
_NAMES = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_NAMES)


def __getattr__(name: str):
    if name not in _NAMES:
        raise AttributeError(f"module 'tinynet.data' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"tinynet.data.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
