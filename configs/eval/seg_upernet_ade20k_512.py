# seg_upernet_ade20k.py with crops of 512 pixels, as MAE's fine-tuning has them (arXiv 2111.06377). Not run here.
_base_ = './seg_upernet_ade20k.py'

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    test_cfg=dict(crop_size=(512, 512), stride=(341, 341)),
)

_base_.train_dataloader.dataset.dataset.pipeline[2].scale = (2048, 512)
_base_.train_dataloader.dataset.dataset.pipeline[3].crop_size = (512, 512)
_base_.val_dataloader.dataset.pipeline[1].scale = (2048, 512)
_base_.test_dataloader.dataset.pipeline[1].scale = (2048, 512)
