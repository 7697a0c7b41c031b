"""Features of frozen encoders."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmmim.checkpoints.mapped import map_checkpoint_file
from mmmim.checkpoints.pretrained import kind_of_weights, read_pretrained
from mmmim.checkpoints.stored_config import check_stored_model
from mmmim.models.data_preprocessors import MIMDataPreprocessor
from mmmim.models.data_preprocessors.checks import check_batch, check_range
from mmmim.models.interfaces import Encoder, PoolingNeck, check_part
from mmmim.models.layers import in_precision_of
from mmmim.models.stored import build_stored, pooling_necks
from mmmim.utils import InputError
from mmmim.utils.nested import under
from mmmim.utils.plain import to_plain

from .extraction import extract_features
from .hub import HubFiles
from .images import Images, check_size, resized_batch, squares_of


class FeatureExtractor(nn.Module, HubFiles):
    """A frozen encoder, and its predictor where global features come from it.

    ``save_pretrained``, ``push_to_hub`` and ``from_pretrained`` are those of huggingface_hub; their file is one of
    ``mmmim export --to safetensors``, read as plain data.

    Args:
        config: Config of a :class:`MaskedImageModeling`, as plain data; ``{'backbone': ...}`` alone is enough.
        state: Weights of the model (``backbone.*``, ``branches.*``), or None for a random initialisation.
        source: Where the weights come from, for error messages.
        kind: Kind of the weights, 'ema' or 'student'; None where they are random.

    Attributes:
        config: Config of what is needed for features, as plain data.

    Raises:
        InputError: No config with a backbone, or weights that do not fit, naming the keys.

    Example:
        >>> extractor = mmmim.get_model('work_dirs/vitl14/iter_500000.pth').cuda()
        >>> features = extractor(['a.png', 'b.jpg'], layers=(11, 23))
    """

    def __init__(
        self,
        config: dict[str, Any],
        state: dict[str, Tensor] | None = None,
        source: str = 'weights',
        kind: str | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(config, Mapping) or 'backbone' not in config:
            raise InputError(
                f'FeatureExtractor takes the config of a model, a dict with a backbone, not a {type(config).__name__}: '
                'mmmim.get_model(FILE_OR_NAME) gives an extractor of a file or a published model.'
            )
        if state is not None:
            check_stored_model(config, source, features_only=True)
        self.backbone = build_stored(
            config['backbone'], None if state is None else under(state, 'backbone.'), f'{source} (backbone.*)'
        )
        check_part(self.backbone, Encoder, f'{source}: model.backbone')
        self.predictor: PoolingNeck | None = None
        # Weights of other libraries come from a file, which a description of the model does not name.
        backbone = {key: value for key, value in config['backbone'].items() if key != 'weights'}
        self.kind, self.config = kind, {'backbone': backbone}
        if config.get('data_preprocessor'):
            self.config['data_preprocessor'] = config['data_preprocessor']
        for prefix, neck in pooling_necks(config):
            weights = None if state is None else under(state, prefix)
            if self.predictor is None and (weights is None or weights):
                self.predictor = build_stored(neck, weights, f'{source} ({prefix}*)')
                self._predictor_name = prefix
                name = prefix.split('.')[1]
                self.config['branches'] = {name: config['branches'][name]}
        self.config = to_plain(copy.deepcopy(self.config))
        self._hub_mixin_config = self.config
        # Encoders of other libraries know what they were trained with.
        own = {'mean': self.backbone.mean, 'std': self.backbone.std} if self.backbone.mean is not None else {}
        default = {'type': 'mmmim.MIMDataPreprocessor', **own}
        self.preprocessor = build_stored(config.get('data_preprocessor') or default, None, source)
        if not isinstance(self.preprocessor, MIMDataPreprocessor):
            raise InputError(
                f'{source}: model.data_preprocessor is a {type(self.preprocessor).__name__}, which is no '
                'MIMDataPreprocessor: features cannot come from it.'
            )
        self.requires_grad_(False).eval()

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, weights: str = 'auto', trust_checkpoint: bool | None = None
    ) -> 'FeatureExtractor':
        """From a training checkpoint or a converted file; arguments as in :func:`mmmim.get_model`."""
        file = map_checkpoint_file(path, trust_checkpoint)
        config, state = read_pretrained(file, path, weights)
        return cls(config, state, f'{path}, {weights} weights', kind_of_weights(file, weights))

    def named_state(self, with_predictor: bool = True) -> dict[str, Tensor]:
        """Weights under the names of checkpoints of mmmim: ``backbone.*`` and, if wanted, those of the predictor."""
        state = {f'backbone.{key}': value for key, value in self.backbone.state_dict().items()}
        if with_predictor and self.predictor is not None:
            state |= {f'{self._predictor_name}{key}': value for key, value in self.predictor.state_dict().items()}
        return state

    def description(self, with_predictor: bool = True) -> dict[str, Any]:
        """What ``mmmim`` of a checkpoint holds for the weights of :meth:`named_state`."""
        model = {key: value for key, value in self.config.items() if with_predictor or key != 'branches'}
        return {'version': 1, 'model': model, 'weights': self.kind}

    def train(self, mode: bool = True) -> 'FeatureExtractor':
        """Stay in eval mode: the encoder is frozen."""
        return super().train(False)

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels: images need sides divisible by it."""
        return self.backbone.patch_size

    @property
    def image_size(self) -> int:
        """Shorter side of the images that it was trained on, in pixels."""
        return min(self.backbone.grid) * self.patch_size

    @property
    def in_channels(self) -> int:
        """Channels of the images that it takes."""
        return self.backbone.in_channels

    @property
    def window(self) -> Any:
        """How files of more than eight bits are read for it, see :class:`mmmim.datasets.LoadImage`."""
        return self.preprocessor.window

    def preprocess(self, images: Images, size: int | None = None) -> Tensor:
        """Images in the 0-255 range as a batch, normalised as in training, on the model's device.

        Args:
            images: The path of a file, a PIL image, an array ``[H, W, C]`` or ``[H, W]`` (grey) of uint8, or a list of
                these and of tensors ``[C, H, W]`` of uint8: each is resized at the shorter side (bicubic, antialiased)
                and cropped to the central square. Or a batch ``[B, C, H, W]``, uint8 or other numbers from 0 to 255,
                which keeps its size. Colours are RGB; C is that of the encoder, 3 unless it was trained on others.
            size: Side of the squares in pixels, of a batch too; None for :attr:`image_size`, that of the training.

        Returns:
            ``[B, C, H, W]`` of the type of the encoder's weights, such as float16 after ``extractor.half()``; so are
            the features.

        Raises:
            InputError: Something else: an empty list, arrays of floats or with channels first, a batch with channels
                last or another number of channels, values outside of 0 to 255 or in [0, 1], NaN; or a file cannot be
                read, or the patch size does not divide ``size``. The message says what helps.
        """
        mean, std = self.preprocessor.mean, self.preprocessor.std
        if size is not None:
            check_size(size, self.patch_size)
        if not isinstance(images, Tensor):
            images = squares_of(images, size or self.image_size, self.in_channels, self.window)
        check_batch(images, self.in_channels)
        check_range(images, mean, std, raw=self.window == 'keep')
        if size is not None and images.shape[-2:] != (size, size):
            images = resized_batch(images, size)
        return in_precision_of(self.backbone, self.preprocessor.normalize(images.to(mean.device)))

    def _hub_weights(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self.named_state(), self.description()

    @torch.no_grad()
    def forward(self, images: Images, layers: Sequence[int] = (-1,), size: int | None = None) -> Any:
        """Extract.

        Args:
            images: What :meth:`preprocess` takes, which is called; or, as a tensor of floating point numbers, what it
                returns: ``[B, C, H, W]``, normalised, any size divisible by the patch size.
            size: Side in pixels of the squares that images are made to, as :meth:`preprocess` takes it; not of floats.
            layers: Blocks whose tokens to return, counted from 0; negative ones from the end.

        Returns:
            Features; ``torch.export`` takes them as they are. In a trace, which can only give tensors, a tuple of those
            of :meth:`mmmim.features.Features.tensors`.

        Raises:
            InputError: As :meth:`preprocess`; or the patch size does not divide the images, or there is no such block.
        """
        if not isinstance(images, Tensor) or not images.is_floating_point():
            images = self.preprocess(images, size)
        elif size is not None:
            raise InputError(
                f'size={size} is of images as they are, and a tensor of {images.dtype} is taken for normalised: give '
                'size to extractor.preprocess.'
            )
        features = extract_features(self.backbone, images, self.predictor, layers)
        return tuple(features.tensors().values()) if torch.jit.is_tracing() else features
