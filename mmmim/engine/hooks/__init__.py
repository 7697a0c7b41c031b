"""Hooks that act at the events of a training."""

from .checkpoint_hook import CheckpointHook
from .curves_hook import CurvesHook
from .health_hook import HealthHook
from .label_free_pictures_hook import LabelFreePicturesHook
from .labels_hook import LabelsHook
from .map_pictures_hook import MapPicturesHook
from .pictures_hook import PicturesHook
from .probe_hook import ProbeHook
from .report_hook import ReportHook
from .runtime_info_hook import RuntimeInfoHook
from .scheduled_value_hook import ScheduledValueHook
from .scores_hook import ScoresHook
from .segmentation_pictures_hook import SegmentationPicturesHook
from .step_seed_hook import StepSeedHook
from .target_ema_hook import TargetEMAHook
from .training_info_hook import TrainingInfoHook

__all__ = [
    'CheckpointHook',
    'CurvesHook',
    'HealthHook',
    'LabelFreePicturesHook',
    'LabelsHook',
    'MapPicturesHook',
    'PicturesHook',
    'ProbeHook',
    'ReportHook',
    'RuntimeInfoHook',
    'ScheduledValueHook',
    'ScoresHook',
    'SegmentationPicturesHook',
    'StepSeedHook',
    'TargetEMAHook',
    'TrainingInfoHook',
]
