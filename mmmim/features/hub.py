"""Files of a model as huggingface_hub keeps them: a folder, or a repository on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmmim.checkpoints.safetensors_file import write_safetensors
from mmmim.utils import InputError

#: The name of the weights there.
WEIGHTS = 'model.safetensors'

if TYPE_CHECKING:
    _Base: Any = object
else:
    try:
        from huggingface_hub import ModelHubMixin as _Base
    except ImportError:

        class _Base:
            """In the place of the library's mixin: says what is missing."""

            def __init_subclass__(cls, **kwargs: Any) -> None:
                super().__init_subclass__()

            @classmethod
            def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
                """Not there without the library."""
                raise InputError('This needs the library huggingface_hub: pip install huggingface_hub')

            save_pretrained = push_to_hub = from_pretrained


class HubFiles(_Base):
    """``save_pretrained``, ``push_to_hub`` and ``from_pretrained`` of huggingface_hub, on a file of safetensors.

    The weights and the description of the model are in one file (:mod:`mmmim.checkpoints.safetensors_file`), which the
    project's own reader reads: ``config.json`` beside it is for people. A repository is downloaded because the user
    names it, and nothing else is.
    """

    def _hub_weights(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Weights, and what ``mmmim`` of a checkpoint holds."""
        raise NotImplementedError

    def _save_pretrained(self, save_directory: Path) -> None:
        write_safetensors(save_directory / WEIGHTS, *self._hub_weights())

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None = None,
        cache_dir: Any = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: Any = None,
        **_: Any,
    ) -> Any:
        file = Path(model_id) / WEIGHTS
        if not Path(model_id).is_dir():
            from huggingface_hub import hf_hub_download

            file = Path(
                hf_hub_download(
                    model_id,
                    WEIGHTS,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    token=token,
                )
            )
        return cls.from_checkpoint(file)

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> Any:
        """The model of a file."""
        raise NotImplementedError
