"""The page "the U-Net from inside": `python -m tinynet page` writes it; its parts are the files beside this one."""
