# ImageNet-22k in WebDataset shards, a stream: see docs/en/dataset_prepare.md. Needs pip install "mmmim[webdataset]".
_base_ = './imagenet22k.py'

train_dataloader = dict(
    sampler=None,
    dataset=dict(
        _delete_=True,
        type='mmmim.WebDatasetStream',
        shards='data/imagenet22k_shards',
        pipeline={{_base_.train_dataloader.dataset.dataset.pipeline}},
    ),
)
