"""The ceiling of the table: a Vision Transformer trained on the labels of a task."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import BaseTransform
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmpretrain.datasets import RandomResizedCrop
from PIL import Image
from torch import Tensor, nn

from mmmim.evaluation.dense import mean_iou, patch_labels
from mmmim.evaluation.digit_scenes import majority
from mmmim.registry import METRICS, MODELS, TRANSFORMS


@TRANSFORMS.register_module()
class CropWithLabels(BaseTransform):
    """A random resized crop of an image and of its label map alike.

    Args:
        scale: Side of the crop in pixels.
        crop_ratio_range: Area of the crop over that of the image.
    """

    def __init__(self, scale: int, crop_ratio_range: tuple[float, float]) -> None:
        self.side = scale
        self.crop = RandomResizedCrop(scale, crop_ratio_range)

    def transform(self, results: dict) -> dict:
        """Crop ``img`` (bicubic) and ``gt_seg_map`` (nearest)."""
        top, left, height, width = self.crop.rand_crop_params(results['img'])
        box = (left, top, left + width, top + height)
        for key, mode in (('img', Image.Resampling.BICUBIC), ('gt_seg_map', Image.Resampling.NEAREST)):
            image = Image.fromarray(results[key])
            results[key] = np.asarray(image.resize((self.side, self.side), mode, box=box))
        return results


@MODELS.register_module()
class SupervisedViT(BaseModel):
    """An encoder of the toolbox that sees whole images, and a linear layer.

    Args:
        backbone: Config of the encoder.
        num_classes: K.
        task: 'image': the class of an image from all patch tokens concatenated, as in the main probe; 'patches': the
            majority label of every patch from its token, as in the dense probe.
        data_preprocessor: Config.
    """

    def __init__(self, backbone: dict, num_classes: int, task: str, data_preprocessor: dict) -> None:
        super().__init__(data_preprocessor)
        self.backbone = MODELS.build(backbone)
        self.task = task
        h, w = self.backbone.grid
        self.head = nn.Linear(self.backbone.embed_dim * (h * w if task == 'image' else 1), num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: Tensor, data_samples: list, mode: str = 'tensor', **kwargs: Any) -> Any:
        """Logits ``[B, K]`` or ``[B, N, K]``; the loss; or predictions and truth in a list of one dict."""
        tokens = self.backbone(inputs).visible
        logits = self.head(tokens.flatten(1) if self.task == 'image' else tokens)
        if mode == 'tensor':
            return logits
        if self.task == 'image':
            labels = torch.cat([sample.gt_label for sample in data_samples])
        else:
            maps = torch.stack([torch.as_tensor(sample.gt_seg_map) for sample in data_samples])
            labels = patch_labels(maps, self.backbone.patch_size)
        labels = labels.to(inputs.device)
        if mode == 'predict':
            predicted = logits.argmax(-1)
            predicted = predicted.unsqueeze(-1).expand_as(labels) if self.task == 'patches' else predicted
            return [{'predicted': predicted.cpu(), 'true': labels.cpu()}]
        if self.task == 'patches':
            labels = majority(labels.flatten(0, 1), logits.shape[-1])
        return {'loss_supervised': F.cross_entropy(logits.flatten(0, -2), labels)}


@METRICS.register_module()
class SupervisedScore(BaseMetric):
    """``linear_all``, the accuracy of classes, or ``linear_miou`` of label maps, each in [0, 1], named as the probes are."""

    default_prefix = ''

    def process(self, data_batch: Any, data_samples: list) -> None:
        """Keep predictions and truth of a batch."""
        self.results.extend(data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Score all batches together."""
        predicted, true = (torch.cat([result[key] for result in results]) for key in ('predicted', 'true'))
        if true.ndim == 1:
            return {'linear_all': float((predicted == true).double().mean())}
        return {'linear_miou': mean_iou(predicted, true, int(max(true.max(), predicted.max())) + 1, ignored=(0,))}
