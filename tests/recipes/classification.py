"""Protocols of whole images: linear and attentive probes, few-shot transfer and fine-tuning of the four papers."""

TABLE = r"""
[eval224]
{val,test}_dataloader.dataset.pipeline: mmmim.LoadImage, mmpretrain.ResizeEdge, mmpretrain.CenterCrop,
  mmpretrain.PackInputs  # the central 224 of 256 pixels
{val,test}_dataloader.dataset.pipeline.1: scale=256, edge='short', interpolation='bicubic'
{val,test}_dataloader.dataset.pipeline.2: crop_size=224

[rrc224: eval224]
$pipeline: mmmim.LoadImage, mmmim.RandomResizedCrop, mmpretrain.RandomFlip, mmpretrain.PackInputs  # crops and flips
$pipeline.1: scale=224, crop_ratio_range=(0.08, 1.0), interpolation='bicubic'
$pipeline.2: prob=0.5

[imagenet]
{$images,val_dataloader.dataset,test_dataloader.dataset}: type='mmmim.ImageFolder'  # ImageNet-1k
$images: data_root='data/imagenet/train'
model.head: num_classes=1000

[imagenet100: imagenet]
$images: data_root='data/imagenet100/train'  # ImageNet-100
model.head: num_classes=100

[frozen]
model.backbone: type='mmmim.PretrainedBackbone', frozen=True, out_indices=(-1,)  # a frozen encoder, the last block
model: reduction='sum'  # heads that are trained at once, each as it would be alone

[batchnorm: frozen]
model.head: type='mmmim.LinearProbes', batch_norm=True, std=0.01, bias='zero'  # MAE, released code: head of the probe

[eval/cls_linear_mae: batchnorm rrc224 imagenet]
global_batch_size=16_384  # MAE, table 10: batch size
train_cfg: max_epochs=90  # MAE, table 10: training epochs
$optimizer: type='mmmim.LARS', lr=6.4, momentum=0.9, weight_decay=0.0  # MAE, table 10: base rate 0.1, momentum, decay
$optimizer: scaled='gradient', vectors=False  # MAE, released code: LARS
$schedule: warmup_ratio=10 / 90  # MAE, table 10: warm-up epochs
model.features: cls='cls'  # MAE, released code: the CLS token after the final norm
$pipeline: mmmim.LoadImage, mmmim.MAERandomResizedCrop, mmpretrain.RandomFlip, mmpretrain.PackInputs
  # MAE, released code: its own crop

[eval/cls_linear_latent_mim: eval/cls_linear_mae]
model.features: cls='cls', pooled='pooled', top10='top10'  # Latent MIM, A.2: poolings

[eval/cls_linear_latent_mim_imagenet100: eval/cls_linear_latent_mim imagenet100]
global_batch_size=1024  # Latent MIM, table 8b: ImageNet-100
train_cfg: max_epochs=20
$optimizer: lr=2.0
$schedule: warmup_ratio=2 / 20

[pilamim: batchnorm]
train_cfg: max_epochs=100  # PiLaMIM, table 5: epochs
$optimizer: type='mmmim.LARS', lr=3.0, momentum=0.9, weight_decay=0.0  # PiLaMIM, table 5: rate, decay
$optimizer: repeat_first=True  # PiLaMIM, released code: LARS
$schedule: epochs=100, warmup_epochs=10  # PiLaMIM, table 5: warm-up
model.head: bias='uniform'  # PiLaMIM, released code: head of the probe
model.features: cls='cls'  # PiLaMIM: the CLS token

[eval/cls_linear_pilamim: pilamim rrc224 imagenet]
global_batch_size=16_384  # PiLaMIM, table 5: batch size
$pipeline.1: crop_ratio_range=(0.2, 1.0)  # PiLaMIM, released code: crops

[eval/cls_linear_pilamim_places365: eval/cls_linear_pilamim]
- $images.data_root {val,test}_dataloader.dataset.pipeline
{$images,val_dataloader.dataset,test_dataloader.dataset}: type='mmmim.Places365'  # PiLaMIM: Places365
$images: data_root='data/places365', split='train'
{val,test}_dataloader.dataset: split='val'
{val,test}_dataloader.dataset.pipeline: mmmim.LoadImage, mmpretrain.CenterCrop, mmpretrain.PackInputs
  # PiLaMIM, released code: Places365
{val,test}_dataloader.dataset.pipeline.1: crop_size=224
model.head: num_classes=365

[eval/cls_linear_pilamim_inat2021: eval/cls_linear_pilamim]
global_batch_size=8192  # PiLaMIM, table 5: batch size of iNaturalist
$images: data_root='data/inat2021/2021_train_mini'
model.head: num_classes=10_000

[square224]
{$images,val_dataloader.dataset,test_dataloader.dataset}.pipeline: mmmim.LoadImage, mmcv.Resize, mmpretrain.PackInputs
  # PiLaMIM, released code: transforms of CIFAR and CLEVR
{$images,val_dataloader.dataset,test_dataloader.dataset}.pipeline.1: scale=(224, 224), keep_ratio=False,
  interpolation='bilinear'

[eval/cls_linear_pilamim_cifar: pilamim square224]
global_batch_size=1024  # PiLaMIM, table 5: batch size of the others
{$images,val_dataloader.dataset,test_dataloader.dataset}: type='mmmim.CIFAR100'  # PiLaMIM: CIFAR-100
$images: data_root='data/cifar100', split='train'
{val,test}_dataloader.dataset: split='test'
model.head: num_classes=100

[eval/cls_linear_pilamim_clevr: pilamim square224]
global_batch_size=1024  # PiLaMIM, table 5: batch size of the others
{$images,val_dataloader.dataset,test_dataloader.dataset}: type='mmmim.CLEVR', task='count'  # PiLaMIM: CLEVR/Count
$images: data_root='data/clevr/CLEVR_v1.0', split='train'
{val,test}_dataloader.dataset: split='val'
model.head: num_classes=8
$pipeline: mmmim.LoadImage, mmcv.Resize, mmpretrain.RandomFlip, mmpretrain.PackInputs  # PiLaMIM, released code: flips
$pipeline.2: prob=0.5

[adamw]
global_batch_size=1024  # SemanticMIM, table 5: batch size
train_cfg: max_epochs=100  # SemanticMIM, table 5: epochs
optim_wrapper: dtype=None  # fp32 here
$optimizer: type='mmengine.AdamW', lr=4e-3, betas=(0.9, 0.999), weight_decay=1e-4  # SemanticMIM, table 5: optimiser
$schedule: start=1.0, final=0.0  # SemanticMIM, table 5: cosine to 0, no warm-up

[eval/cls_linear_semantic_mim: frozen adamw rrc224 imagenet]
model.backbone: out_indices=[6]  # SemanticMIM: the 7th block
model.features: patch='pooled_probe', cls='cls_probe'  # SemanticMIM, table 1: Patch and CLS
model.head: type='mmmim.LinearProbes', batch_norm=False, std=0.02, bias='zero'  # SemanticMIM, released code: head

[eval/cls_linear_beit: frozen adamw rrc224 imagenet]
model.backbone: out_indices='pretrained:blocks'  # BEiT, released code: a head on every block
model.backbone: final_norm=False  # our choice
model.features: block='cls+pooled'  # BEiT, released code: CLS beside the mean of the patches
model.head: type='mmmim.LinearProbes', batch_norm=False, std=0.01, bias='zero'  # BEiT, released code: head
$pipeline.1: interpolation='bilinear'  # BEiT, released code: crops
- $schedule
$schedule: epochs=100, warmup_epochs=0  # BEiT, released code: the cosine moves with the epochs

[capi: frozen]
global_batch_size=1024  # CAPI, released code: 8 x 128 images
train_cfg: max_iters=12_500  # CAPI, released code: iterations
$optimizer: type='mmmim.HeadAdamW', lr=4.0, betas=(0.9, 0.95)  # CAPI, appendix: AdamW, rates per 256 images
$schedule: warmup_ratio=0.1  # CAPI, released code: 1250 iterations
model.head: type='mmmim.ProbeSweep', std=0.02  # CAPI, released code: heads
model.head: rates=[1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2], decays=[5e-4, 1e-3, 5e-2]
  # CAPI, appendix: 10 rates x 3 decays
model: reduction='mean'  # CAPI, released code: mean over heads

[eval/cls_sweep: capi]
model.head: num_classes=1000  # ImageNet-1k
model.features: cls='cls', avg_patch='pooled', cls_avg_patch='cls+pooled', patch='patches'  # CAPI, appendix: features
$images: type='mmmim.Split', part='train'  # CAPI, released code: nine tenths of the training images
val_dataloader.dataset: type='mmmim.Split', part='val'  # CAPI, released code: a tenth of the training images
{$images,val_dataloader.dataset}: share=0.9, seed=42  # CAPI, released code: numpy's generator
{$images,val_dataloader.dataset}.dataset: type='mmmim.ImageFolder', data_root='data/imagenet/train'
test_dataloader.dataset: type='mmmim.ImageFolder'
$images.dataset.pipeline: mmmim.LoadImage, mmmim.RandomResizedCrop, mmpretrain.RandomFlip, mmpretrain.PackInputs
  # CAPI, released code: crops and flips
$images.dataset.pipeline.1: scale=224, crop_ratio_range=(0.08, 1.0), interpolation='bicubic'
$images.dataset.pipeline.2: prob=0.5
{val_dataloader.dataset.dataset,test_dataloader.dataset}.pipeline: mmmim.LoadImage, mmpretrain.ResizeEdge,
  mmpretrain.CenterCrop, mmpretrain.PackInputs
{val_dataloader.dataset.dataset,test_dataloader.dataset}.pipeline.1: scale=256, edge='short', interpolation='bicubic'
{val_dataloader.dataset.dataset,test_dataloader.dataset}.pipeline.2: crop_size=224

[eval/cls_sweep_predicted: eval/cls_sweep]
model.features: cls='predicted', cls_avg_patch='predicted+pooled'  # CAPI, table 5: predictor pooling

[eval/cls_attentive: eval/cls_sweep]
model.features: cls=None, avg_patch=None, cls_avg_patch=None  # CAPI, appendix: attentive probes

[eval/cls_attentive_448: eval/cls_attentive]
$images.dataset.pipeline.1: scale=448  # CAPI, table 4: images of 448 px
{val_dataloader.dataset.dataset,test_dataloader.dataset}.pipeline.1: scale=512  # our choice: as 256 is to 224
{val_dataloader.dataset.dataset,test_dataloader.dataset}.pipeline.2: crop_size=448  # CAPI, table 4: images of 448 px

[eval/cls_linear_dinov2: capi rrc224 imagenet]
- $optimizer $schedule
model.features: cls_1='cls', cls_1_avg='cls+pooled', cls_4='cls@-4+cls@-3+cls@-2+cls@-1',
  cls_4_avg='cls@-4+cls@-3+cls@-2+cls@-1+pooled'  # DINOv2, released code: blocks 1 and 4, with and without the mean
model.head: rates=[1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1], decays=[0.0], std=0.01
  # DINOv2, released code: 13 rates
model: reduction='sum'  # DINOv2, released code: sum of losses
$optimizer: type='mmmim.HeadSGD', lr=4.0, momentum=0.9  # DINOv2, released code: SGD, rates per 256 images
$schedule: start=1.0, final=0.0  # DINOv2, released code: cosine to 0

[eval/cls_fewshot: batchnorm]
global_batch_size=128  # Latent MIM, section 4: few-shot transfer
train_cfg: max_iters=2500
optim_wrapper: dtype=None
$optimizer: type='mmengine.SGD', lr=0.1, momentum=0.9
$optimizer: weight_decay=0.0  # our choice
$schedule: start=1.0, final=0.0
model.features: cls='cls', pooled='pooled', top10='top10'  # Latent MIM, A.2: poolings
model.head: num_classes=100  # CoOp: Caltech101
$images: type='mmmim.FewShot', shots=16, seed=1  # Latent MIM, table 7: 16 images per class; the seed is our choice
{$images.dataset,val_dataloader.dataset,test_dataloader.dataset}: type='mmmim.CoOpSplit',
  without=['BACKGROUND_Google', 'Faces_easy']  # CoOp: Caltech101
$images.dataset: data_root='data/caltech-101', split='train'
{val,test}_dataloader.dataset: split='test'
$images.dataset.pipeline: mmmim.LoadImage, mmmim.RandomResizedCrop, mmpretrain.RandomFlip, mmpretrain.PackInputs
  # our choice
$images.dataset.pipeline.1: scale=224, crop_ratio_range=(0.08, 1.0), interpolation='bicubic'
$images.dataset.pipeline.2: prob=0.5
{val,test}_dataloader.dataset.pipeline: mmmim.LoadImage, mmpretrain.ResizeEdge, mmpretrain.CenterCrop,
  mmpretrain.PackInputs
{val,test}_dataloader.dataset.pipeline.1: scale=256, edge='short', interpolation='bicubic'
{val,test}_dataloader.dataset.pipeline.2: crop_size=224

[policies]
$pipeline.3.policies: mmpretrain.AutoContrast, mmpretrain.Equalize, mmpretrain.Invert, mmpretrain.Rotate,
  mmpretrain.Posterize, mmpretrain.Solarize, mmpretrain.SolarizeAdd, mmpretrain.ColorTransform, mmpretrain.Contrast,
  mmpretrain.Brightness, mmpretrain.Sharpness, mmpretrain.Shear, mmpretrain.Shear, mmpretrain.Translate,
  mmpretrain.Translate  # timm's increasing set of RandAugment
$pipeline.3.policies.3: magnitude_range=(0, 30)
$pipeline.3.policies.4: magnitude_range=(4, 0)
$pipeline.3.policies.5: magnitude_range=(256, 0)
$pipeline.3.policies.6: magnitude_range=(0, 110)
$pipeline.3.policies.{7,8,9,10}: magnitude_range=(0, 0.9)
$pipeline.3.policies.{11,12}: magnitude_range=(0, 0.3)
$pipeline.3.policies.{13,14}: magnitude_range=(0, 0.45)
$pipeline.3.policies.{11,13}: direction='horizontal'
$pipeline.3.policies.{12,14}: direction='vertical'
$pipeline.3: num_policies=2, total_level=10, magnitude_level=9, magnitude_std=0.5
  # MAE, table 9: RandAugment (9, 0.5); BEiT and SemanticMIM, released code: rand-m9-mstd0.5-inc1
$pipeline.3.hparams: pad_val=[104, 116, 124], interpolation='bicubic'

[erasing]
$pipeline: mmmim.LoadImage, mmmim.RandomResizedCrop, mmpretrain.RandomFlip, mmpretrain.RandAugment,
  mmpretrain.RandomErasing, mmpretrain.PackInputs  # released code of MAE and BEiT
$pipeline.4: erase_prob=0.25, mode='rand', min_area_ratio=0.02, max_area_ratio=1 / 3  # random erasing
$pipeline.4: fill_color=[103.53, 116.28, 123.675], fill_std=[57.375, 57.12, 58.395]  # noise of ImageNet's statistics

[soft]
model.train_cfg.augments.0: type='mmpretrain.Mixup', alpha=0.8  # MAE, table 9; BEiT, released code: mixup
model.train_cfg.augments.1: type='mmpretrain.CutMix', alpha=1.0  # MAE, table 9; BEiT, released code: cutmix

[tuned: rrc224 policies imagenet]
global_batch_size=1024  # batch size of the released codes
optim_wrapper: dtype='bfloat16'  # bfloat16 here
$optimizer: type='mmengine.AdamW', betas=(0.9, 0.999), weight_decay=0.05  # MAE, table 9; BEiT, released code
$rules.no_decay:
  match=r'bias$|(norm|ln|bn)\d?\.weight$|pos_embed|positions\.(?!table)|token|gamma|scale\d\.weight$', decay_mult=0.0
  # vectors do not decay
model.backbone: type='mmmim.PretrainedBackbone', out_type='avg_featmap', final_norm=False, drop_path_rate=0.1
  # MAE, released code: mean of the patches, then a new norm; stochastic depth
model.head: type='mmpretrain.LinearClsHead'
model.head.loss: type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'  # label smoothing
model.head.init_cfg: type='mmengine.TruncNormal', layer='Linear', std=2e-5, bias=0.0  # MAE, released code: head

[eval/cls_finetune_mae_vitb16: tuned soft erasing]
train_cfg: max_epochs=100  # MAE, table 9: epochs of ViT-B
$optimizer: lr=1e-3 * 1024 / 256  # MAE, table 9: base rate
optim_wrapper.paramwise_cfg: layer_decay=0.75  # MAE, table 9: layer decay
$schedule: warmup_ratio=5 / 100, final=1e-6 / 4e-3  # MAE, table 9: warm-up; released code: least rate

[eval/cls_finetune_mae_vitb16_released: eval/cls_finetune_mae_vitb16]
$optimizer: lr=5e-4 * 1024 / 256  # MAE, released code: ViT-B
optim_wrapper.paramwise_cfg: layer_decay=0.65
$schedule: final=1e-6 / 2e-3

[eval/cls_finetune_mae_vitl16: eval/cls_finetune_mae_vitb16]
train_cfg: max_epochs=50  # MAE, table 9: epochs of ViT-L and ViT-H
$schedule: warmup_ratio=5 / 50
model.backbone: drop_path_rate=0.2  # MAE, table 9: stochastic depth of ViT-L

[eval/cls_finetune_mae_vith14: eval/cls_finetune_mae_vitl16]
model.backbone: drop_path_rate=0.3  # MAE, table 9: stochastic depth of ViT-H

[eval/cls_finetune_beit: tuned soft erasing]
train_cfg: max_epochs=100  # BEiT, released code: ViT-B without labels
$optimizer: lr=4e-3
optim_wrapper.paramwise_cfg: layer_decay=0.65
$schedule: warmup_ratio=20 / 100, truncation=1.0, final=1e-6 / 4e-3
model.head.init_cfg: std=0.02 * 0.001

[plain]
$pipeline: mmmim.LoadImage, mmmim.RandomResizedCrop, mmpretrain.RandomFlip, mmpretrain.RandAugment,
  mmpretrain.PackInputs  # no random erasing, which is not mentioned

[eval/cls_finetune_latent_mim: tuned soft plain]
train_cfg: max_epochs=100  # Latent MIM, table 8c: fine-tuning on ImageNet-1k
$optimizer: lr=5e-4 * 1024 / 256
$schedule: warmup_ratio=10 / 100
$schedule: final=1e-6 / 2e-3  # our choice: MAE's
optim_wrapper.paramwise_cfg: layer_decay=0.65

[eval/cls_finetune_latent_mim_imagenet100: eval/cls_finetune_latent_mim imagenet100]
train_cfg: max_epochs=50  # Latent MIM, table 8c: fine-tuning on ImageNet-100
$optimizer: lr=1e-3 * 1024 / 256
$schedule: warmup_ratio=5 / 50
$schedule: final=1e-6 / 4e-3  # our choice: MAE's
optim_wrapper.paramwise_cfg: layer_decay=0.75

[eval/cls_finetune_semantic_mim_beit: tuned soft erasing]
train_cfg: max_epochs=100  # SemanticMIM, released config of BEiT
$optimizer: lr=4e-3
optim_wrapper.paramwise_cfg: layer_decay=0.65
param_scheduler.warmup: start_factor=1e-4, begin=0, end=20
param_scheduler.decay: eta_min=1e-6, begin=20, end=100, T_max=80
model.head.init_cfg: std=0.02

[eval/cls_finetune_semantic_mim_maskfeat: eval/cls_finetune_semantic_mim_beit]
- $pipeline.4
global_batch_size=2048  # SemanticMIM, released config of MaskFeat
$optimizer: lr=8e-3
model.head.init_cfg: std=2e-5, bias=2e-5
{val,test}_dataloader.dataset.pipeline.1: interpolation='bilinear'
$pipeline: mmmim.LoadImage, mmmim.RandomResizedCrop, mmpretrain.RandomFlip, mmpretrain.RandAugment,
  mmpretrain.ColorJitter, mmpretrain.RandomErasing, mmpretrain.PackInputs
$pipeline.4: brightness=0.4, contrast=0.4, saturation=0.4
$pipeline.5: erase_prob=0.25, mode='rand', min_area_ratio=0.02, max_area_ratio=1 / 3
$pipeline.5: fill_color=[103.53, 116.28, 123.675], fill_std=[57.375, 57.12, 58.395]

[eval/cls_finetune_ijepa_1pct: tuned plain]
global_batch_size=512  # I-JEPA, appendix: fine-tuning on 1 %
train_cfg: max_epochs=50
$optimizer: lr=3e-5
optim_wrapper.paramwise_cfg: layer_decay=0.75
model.backbone: out_type='pooled', final_norm=True, drop_path_rate=0.0
model: train_cfg=None
$images: list_file='data/imagenet/1percent.txt'
$schedule: warmup_ratio=5 / 50, final=1e-6 / 3e-5  # our choice

[eval/cls_corruptions_imagenet]
model.backbone: type='mmmim.PretrainedBackbone', frozen=True, out_indices=(-1,)  # our choice: any head of a checkpoint
model: reduction='sum'
model.features: pooled='pooled'
model.head: type='mmmim.LinearProbes', batch_norm=True, std=0.01, bias='zero', num_classes=1000
test_cfg: corruptions=['gaussian_noise', 'shot_noise', 'impulse_noise', 'defocus_blur', 'glass_blur', 'motion_blur',
  'zoom_blur', 'snow', 'frost', 'fog', 'brightness', 'contrast', 'elastic_transform', 'pixelate', 'jpeg_compression'],
  severities=[1, 2, 3, 4, 5]  # ImageNet-C, section 3: fifteen corruptions, five severities
test_cfg: baseline=None, examples=1  # our choice: given by the user
test_evaluator.0: bins=15  # Guo et al. 2017: 15 bins
test_dataloader.dataset: type='mmmim.ImageFolder', data_root='data/imagenet/val'  # ImageNet-C: validation images
test_dataloader.dataset.pipeline: mmmim.LoadImage, mmpretrain.ResizeEdge, mmpretrain.CenterCrop, mmmim.Corrupt,
  mmpretrain.PackInputs  # ImageNet-C: the 224 pixels that are evaluated
test_dataloader.dataset.pipeline.1: scale=256, edge='short', interpolation='bicubic'
test_dataloader.dataset.pipeline.2: crop_size=224
"""
