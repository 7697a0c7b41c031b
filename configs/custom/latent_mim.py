# Latent MIM ViT-B/16 on a folder of your own images. Copy the file and change what stands at the top, or set the same
# keys on a command line: mmmim train custom/latent_mim --cfg-options images.data_root=/my/images
# (configs/custom/README.md).
#
# The recipe of ../latent_mim/vitb16.py (arXiv 2407.15837), for a smaller batch and a shorter run (our choice): the
# learning rate follows the batch, 1.5e-4 for 256 images, as in the paper, and one minus the momentum of the teacher
# with it (our reading). The share of visible patches is the paper's, a tenth, instead of its number, 20, so that images
# may have another size. Not run here.
_base_ = '{{$MMMIM_CONFIGS:..}}/latent_mim/vitb16.py'

# The images: the lines that `mmmim stats FOLDER` prints, and the side of all patches together in pixels; a crop is a
# quarter wider, for the gaps between them.
images = dict(
    data_root='data/my_images',
    size=224,
    channels=3,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
)
# Images of a step, over all GPUs, and the number of steps.
global_batch_size = 256
train_cfg = dict(max_iters=100_000)

train_dataloader = dict(
    collate_fn=dict(masking=dict(_delete_=True, type='mmmim.UniformMasking', mask_ratio=0.9)),
)
# What depends on the batch.
optim_wrapper = dict(optimizer=dict(lr=1.5e-4 * global_batch_size / 256))
default_hooks = dict(target_ema=dict(momentum=dict(start=1 - 0.01 * global_batch_size / 4096)))
auto_scale_lr = dict(base_batch_size=global_batch_size)
