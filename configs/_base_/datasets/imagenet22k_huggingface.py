# ImageNet-22k streamed from the Hugging Face Hub: see docs/en/dataset_prepare.md. Not run here.
# Needs pip install "mmmim[huggingface]", and the consent to the terms of the data set.
_base_ = './imagenet22k.py'

train_dataloader = dict(
    sampler=None,
    dataset=dict(
        _delete_=True,
        type='mmmim.HuggingFaceStream',
        path='timm/imagenet-22k-wds',
        split='train',
        column='jpg',
        pipeline={{_base_.train_dataloader.dataset.dataset.pipeline}},
    ),
)
