# CAPI ViT-S/14 on a folder of your own images. Copy the file and change what stands at the top, or set the same keys on
# a command line: mmmim train custom/capi --cfg-options images.data_root=/my/images (configs/custom/README.md).
#
# The recipe of ../capi/vits14.py (arXiv 2502.08769, tables 6 and 8), for a smaller batch and a shorter run (our
# choice): the learning rate follows the square root of the batch (Malladi et al. 2022, arXiv 2205.10287), and one minus
# the momentum of the teacher is the rate, as in the paper. There are as many prototypes as images in a batch, as in the
# paper: of more, most would stay unused. Not run here.
_base_ = '{{$MMMIM_CONFIGS:..}}/capi/vits14.py'

# The images: the lines that `mmmim stats FOLDER` prints, and the side of a crop in pixels, a multiple of 14.
images = dict(
    data_root='data/my_images',
    size=224,
    channels=3,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
)
# Images of a step, over all GPUs, and the number of steps.
global_batch_size = 1024
train_cfg = dict(max_iters=100_000)

# What depends on the batch.
model = dict(
    branches=dict(
        capi=dict(target_generator=dict(num_prototypes=global_batch_size), head=dict(num_prototypes=global_batch_size))
    )
)
optim_wrapper = dict(optimizer=dict(lr=2e-3 * (global_batch_size / 16384) ** 0.5))
default_hooks = dict(target_ema=dict(momentum=dict(base=1 - 2e-3 * (global_batch_size / 16384) ** 0.5)))
auto_scale_lr = dict(base_batch_size=global_batch_size)
