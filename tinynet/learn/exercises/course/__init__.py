"""The course: one file for each exercise, in this order. conv_05.py holds `conv-05`."""

COURSE = (
    *("ad-01", "ad-02", "ad-03", "ad-04", "ad-05", "ad-06"),
    *("act-01", "act-02", "act-03", "loss-01", "loss-02", "drop-01"),
    *("conv-01", "conv-02", "conv-03", "conv-04", "conv-05", "conv-06", "conv-07", "conv-08"),
    *("pool-01", "pool-02", "samp-01", "det-01", "cam-01"),
    *("opt-01", "jit-01", "cuda-01", "hunt-01"),
)
