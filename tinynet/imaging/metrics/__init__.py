"""Scores of predictions: of label images, of classes and of displacement fields.

**Label images**: how well were the nuclei found, and how well were they separated? A *label image* is an integer array
(H, W): 0 is background, every other number is one nucleus. All scores compare a true label image with a predicted label
image of the same shape. There are two kinds of scores:

- *Dice* and *IoU* look at the foreground only: is this pixel nucleus or not? Two nuclei merged into one cost nothing.
- *Average precision* looks at whole nuclei. A predicted nucleus is a true positive (TP) if its overlap with a true
  nucleus exceeds a threshold, otherwise it is a false positive (FP). A true nucleus without a partner is a false
  negative (FN). The score at this threshold is TP / (TP + FP + FN). Two nuclei merged into one cost two FN and one FP.

Source of the second: the 2018 Data Science Bowl (Caicedo et al., Nature Methods 16, 2019), which averages over the
thresholds 0.50, 0.55, ..., 0.95 and then over images.

**Classes**: `roc_curve`, `auc` and `sensitivity_at` judge a score for "yes", without a threshold or at every threshold;
`precision_recall_curve` and `ranking_ap` do so where positives are rare.
`confusion_matrix` and `cohen_kappa` judge answers that are one of several classes. `calibration_curve` and
`expected_calibration_error` compare how sure the answers are with how many of them are correct.

**Boxes**: `precision_recall` and `detection_ap` judge boxes that were found, `box_recall` proposals.

**Displacement fields**: `jacobian_determinant` and `folded_share` tell where a warp folds an image.
"""

from .calibration import calibration_curve, expected_calibration_error
from .classes import (
    auc,
    auc_interval,
    bootstrap_interval,
    cohen_kappa,
    confusion_matrix,
    precision_recall_curve,
    ranking_ap,
    roc_curve,
    sensitivity_at,
)
from .detections import box_recall, detection_ap, precision_recall
from .displacements import folded_share, jacobian_determinant
from .label_images import (
    THRESHOLDS,
    average_precision,
    class_dice,
    dice,
    iou,
    iou_matrix,
    match_counts,
    mean_ap,
    pooled_ap,
    precision_at,
)
from .surfaces import surface_distance
from .tables import SCORES, evaluate_instances, format_table, score_table, write_rows
