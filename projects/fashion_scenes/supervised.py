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

from mmmim.evaluation.measures.dense import confusion_matrix, mean_iou
from mmmim.features.patch_labels import mode as most_frequent
from mmmim.features.patch_labels import patch_labels
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
    """An encoder of the toolbox that sees whole images, with a linear layer for each of two tasks, learned together.

    The class of an image comes from all patch tokens concatenated, the label of a patch (the majority of its pixels)
    from its token: what the main probe and the dense probe do with frozen features.

    Args:
        backbone: Config of the encoder.
        num_classes: Of images.
        num_labels: Of pixels.
        data_preprocessor: Config.
    """

    def __init__(self, backbone: dict, num_classes: int, num_labels: int, data_preprocessor: dict) -> None:
        super().__init__(data_preprocessor)
        self.backbone = MODELS.build(backbone)
        h, w = self.backbone.grid
        self.classify = nn.Linear(self.backbone.embed_dim * h * w, num_classes)
        self.segment = nn.Linear(self.backbone.embed_dim, num_labels)
        for head in (self.classify, self.segment):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, inputs: Tensor, data_samples: list, mode: str = 'tensor', **kwargs: Any) -> Any:
        """Logits ``[B, K]`` and ``[B, N, L]``; losses; or predictions and truth in a list of one dict."""
        tokens = self.backbone(inputs).visible
        classes, labels = self.classify(tokens.flatten(1)), self.segment(tokens)
        if mode == 'tensor':
            return classes, labels
        true_classes = torch.cat([sample.gt_label for sample in data_samples]).to(inputs.device)
        maps = torch.stack([torch.as_tensor(sample.gt_seg_map) for sample in data_samples])
        true_labels = patch_labels(maps, self.backbone.patch_size).to(inputs.device)
        if mode == 'predict':
            predicted = labels.argmax(-1, keepdim=True).expand_as(true_labels)
            return [{'class': (classes.argmax(-1), true_classes), 'label': (predicted, true_labels)}]
        true_labels = most_frequent(true_labels.flatten(0, 1), labels.shape[-1])
        return {
            'loss_class': F.cross_entropy(classes, true_classes),
            'loss_label': F.cross_entropy(labels.flatten(0, 1), true_labels),
        }


@METRICS.register_module()
class SupervisedScore(BaseMetric):
    """``linear_all``, accuracy of classes, and ``linear_miou`` of label maps, in [0, 1], named as probes are."""

    default_prefix = ''

    def process(self, data_batch: Any, data_samples: list) -> None:
        """Keep predictions and truth of a batch."""
        self.results.extend(data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Score all batches together."""
        pairs = {
            key: [torch.cat(parts) for parts in zip(*(r[key] for r in results), strict=True)] for key in results[0]
        }
        predicted, true = pairs['label']
        classes = int(max(true.max(), predicted.max())) + 1
        return {
            'linear_all': float(torch.eq(*pairs['class']).double().mean()),
            'linear_miou': mean_iou(confusion_matrix(predicted, true, classes, ignored=(0,))),
        }
