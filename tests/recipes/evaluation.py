"""Protocols of segmentation and of objects in videos.

SemanticMIM (arXiv 2406.10673, tables 4, 6), CAPI (arXiv 2502.08769, tables 3, 7), DINO (arXiv 2104.14294, section
4.2.1) and CRW (arXiv 2006.14613).
"""

TABLE = r"""
[crops]
$pipeline: mmmim.LoadImage, mmmim.LoadLabelMap, mmcv.RandomResize, mmseg.RandomCrop, mmcv.RandomFlip,
  mmseg.PhotoMetricDistortion, mmseg.PackSegInputs  # pipeline of BEiT in mmsegmentation
$pipeline.2: ratio_range=(0.5, 2.0), keep_ratio=True  # crops of BEiT in mmsegmentation
$pipeline.3: cat_max_ratio=0.75
$pipeline.4: prob=0.5
{val,test}_dataloader.dataset.pipeline: mmmim.LoadImage, mmcv.Resize, mmmim.LoadLabelMap, mmseg.PackSegInputs
  # the size of the file is what is scored
{val,test}_dataloader.dataset.pipeline.1: keep_ratio=True

[eval/seg_upernet_ade20k: crops]
global_batch_size=16  # table 4: batch size
train_cfg: max_iters=160_000  # table 4: steps
optim_wrapper: dtype='bfloat16'
  # table 4: Adam, peak learning rate, decay; released code: layers decay by 0.9; bfloat16 here
$optimizer: type='mmengine.AdamW', lr=3e-5, betas=(0.9, 0.999), weight_decay=0.05
optim_wrapper.paramwise_cfg: layer_decay=0.9
$rules.no_decay:
  match=r'bias|(norm|ln|bn)\d?\.weight$|4x\.1\.weight$|pos_embed|positions\.(?!table)|token|gamma|scale\d\.weight$',
  decay_mult=0.0  # vectors do not decay
param_scheduler.warmup: start_factor=1e-6, begin=0, end=1500  # table 4: warm-up
param_scheduler.decay: power=1.0, eta_min=0.0, begin=1500  # table 4: linear, to 0
model.backbone: type='mmmim.PretrainedBackbone', drop_path_rate=0.1  # table 4: stochastic depth
model.backbone: out_indices=(1 / 3, 1 / 2, 2 / 3, 1.0), final_norm=False, stride=16
  # released code: blocks at 1/3, 1/2, 2/3 and all of the depth, without the final norm
model.neck: type='mmseg.Feature2Pyramid', rescales=[4, 2, 1, 0.5]  # released code
model.decode_head: type='mmseg.UPerHead', pool_scales=(1, 2, 3, 6), dropout_ratio=0.1
model.decode_head.loss_decode: type='mmseg.CrossEntropyLoss', loss_weight=1.0
model.auxiliary_head: type='mmseg.FCNHead', channels=256, num_convs=1, dropout_ratio=0.1
model.auxiliary_head.loss_decode: type='mmseg.CrossEntropyLoss', loss_weight=0.4
model.test_cfg: mode='slide', crop_size=(640, 640), stride=(426, 426)
model.decode_head: channels='pretrained:embed_dim'  # as wide as the encoder
{$images,val_dataloader.dataset,test_dataloader.dataset}: type='mmseg.ADE20KDataset'  # table 4
$images: data_root='data/ade/ADEChallengeData2016'
model.{decode_head,auxiliary_head}: num_classes=150
{$pipeline.2,val_dataloader.dataset.pipeline.1,test_dataloader.dataset.pipeline.1}: scale=(2560, 640)
  # table 4: input resolution
$pipeline.3: crop_size=(640, 640)

[eval/seg_upernet_ade20k_512: eval/seg_upernet_ade20k]
model.test_cfg: crop_size=(512, 512), stride=(341, 341)  # MAE (arXiv 2111.06377): crops
{$pipeline.2,val_dataloader.dataset.pipeline.1,test_dataloader.dataset.pipeline.1}: scale=(2048, 512)
$pipeline.3: crop_size=(512, 512)

[linear]
model.backbone: type='mmmim.PretrainedBackbone', frozen=True  # a linear classifier of one frozen map
model.decode_head: type='mmseg.FCNHead', num_convs=0, dropout_ratio=0.0, channels='pretrained:embed_dim'
  # a 1x1 convolution
model.decode_head.loss_decode: type='mmseg.CrossEntropyLoss', avg_non_ignore=True  # released code
model.decode_head.init_cfg: type='mmengine.Normal', std=0.01, bias=0, override=dict(name='conv_seg')

[eval/seg_linear_voc2012: linear]
global_batch_size=120  # table 6: batch size
train_cfg: max_iters=-(-25 * 10_582 // 120)  # table 6: 25 epochs of 10 582 images
optim_wrapper: dtype=None  # table 6: SGD, no decay
$optimizer: type='mmengine.SGD', lr=0.01, momentum=0.9, weight_decay=0.0
param_scheduler: milestones=[882, 1764], gamma=0.1  # table 6: steps; released code: every 10 epochs
model.backbone: out_indices=[5], final_norm=False  # table 1: the 6th block; released code: no final norm
model: neck=None  # released code
model.test_cfg: mode='whole'  # table 6
model.decode_head: num_classes=21
$images: type='mmengine.ConcatDataset'
{val,test}_dataloader.dataset: type='mmseg.PascalVOCDataset'
$images.datasets.{0,1}: type='mmseg.PascalVOCDataset', data_root='data/VOCdevkit/VOC2012'  # table 6: training images
$images.datasets.{0,1}.pipeline: mmmim.LoadImage, mmmim.LoadLabelMap, mmmim.RandomResizedCrop, mmcv.RandomFlip,
  mmmim.ResizeLabelMap, mmseg.PackSegInputs  # table 6: crops, flips, training resolution
$images.datasets.{0,1}.pipeline.2: crop_ratio_range=(0.8, 1.0), interpolation='bilinear'  # released code
$images.datasets.{0,1}.pipeline.2: scale=448  # table 6: input resolution
$images.datasets.{0,1}.pipeline.3: prob=0.5  # released code: flips
$images.datasets.{0,1}.pipeline.4: scale=100  # table 6: training resolution
{val,test}_dataloader.dataset.pipeline: mmmim.LoadImage, mmmim.LoadLabelMap, mmcv.Resize, mmmim.ForgetOriginalSize,
  mmseg.PackSegInputs  # table 6: eval resolution
{val,test}_dataloader.dataset.pipeline.2: scale=(448, 448), keep_ratio=False

[eval/seg_linear_ade20k: linear crops]
global_batch_size=16  # our choice
train_cfg: max_iters=40_000
optim_wrapper: dtype=None
$optimizer: type='mmengine.AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=1e-4
param_scheduler.warmup: start_factor=1e-6, begin=0, end=1500
param_scheduler.decay: power=1.0, eta_min=0.0, begin=1500
model.backbone: out_indices=(-1,)
model.neck: type='mmmim.FeatureBatchNorm'
model.test_cfg: mode='slide', crop_size=(512, 512), stride=(341, 341)
model.decode_head: num_classes=150
{$images,val_dataloader.dataset,test_dataloader.dataset}: type='mmseg.ADE20KDataset'
$images: data_root='data/ade/ADEChallengeData2016'
{$pipeline.2,val_dataloader.dataset.pipeline.1,test_dataloader.dataset.pipeline.1}: scale=(2048, 512)
$pipeline.3: crop_size=(512, 512)

[eval/seg_linear_cityscapes: eval/seg_linear_ade20k]
{$images,val_dataloader.dataset,test_dataloader.dataset}: type='mmseg.CityscapesDataset'  # our choice
$images: data_root='data/cityscapes'
model.decode_head: num_classes=19
{$pipeline.2,val_dataloader.dataset.pipeline.1,test_dataloader.dataset.pipeline.1}: scale=(2048, 1024)

[fitted]
model: features='patches'  # appendix: patch features of the last block
model.backbone: type='mmmim.PretrainedBackbone', out_indices=(-1,), frozen=True
test_cfg: held_out=0.1, choose_by='mIoU'  # appendix: chosen by mIoU on a tenth of the training images
test_cfg.probe: standardize='once'  # table 7: standardised features; released code: once, by all patches of the 90 %
{fit,test}_dataloader.dataset.pipeline: mmmim.LoadImage, mmmim.LoadLabelMap, mmcv.Resize, mmseg.PackSegInputs
  # appendix: 224 x 224
{fit,test}_dataloader.dataset.pipeline.2: scale=(224, 224), keep_ratio=False, interpolation='bicubic'

[knn] test_cfg.probe: type='mmmim.KNNProbe', k=[1, 3, 10, 30], distance=['cosine', 'l2']  # table 7: grid
[logreg]
test_cfg.probe: type='mmmim.LogisticRegressionProbe', c=[10 ** (-6 + 11 * i / 7) for i in range(8)], max_iter=1000,
  tolerance=1e-12  # appendix: eight penalties from 1e-6 to 1e5, L-BFGS

[ade20k] {fit,test}_dataloader.dataset: type='mmseg.ADE20KDataset'  # table 3
[voc2012] {fit,test}_dataloader.dataset: type='mmseg.PascalVOCDataset'  # table 3
[cityscapes] {fit,test}_dataloader.dataset: type='mmseg.CityscapesDataset'  # table 3

[eval/seg_knn_ade20k: fitted knn ade20k]
[eval/seg_knn_voc2012: fitted knn voc2012]
[eval/seg_knn_cityscapes: fitted knn cityscapes]
[eval/seg_logreg_ade20k: fitted logreg ade20k]
[eval/seg_logreg_voc2012: fitted logreg voc2012]
[eval/seg_logreg_cityscapes: fitted logreg cityscapes]

[eval/vos_davis2017]
model: features='patches'  # DINO's released script: output of the last block, final-normed, patches alone
model.backbone: type='mmmim.PretrainedBackbone', out_indices=(-1,), frozen=True
test_cfg: short_side=480  # DINO's released script: the short side 480, the long one a multiple of 64
test_cfg.propagation: context=7, radius=12, topk=5  # DINO's released script: defaults of its options
test_cfg.propagation: temperature=0.1  # DINO's released script: in the code
test_cfg.propagation: shape='square', keep_ties=True  # DINO's released script: restriction, threshold
test_cfg.propagation: free_first=False, repeat_first=False  # DINO's released script: the queue of frames
test_cfg.propagation: min_max=True, first_labels='nearest', upsample='input'  # DINO's released script: masks
test_dataloader.dataset: type='mmmim.DAVIS2017', split='val'  # DINO, section 4.2.1: DAVIS-2017

[eval/vos_davis2017_crw: eval/vos_davis2017]
test_cfg: short_side=None  # CRW's released code: frames at their own size
test_cfg.propagation: context=20, topk=10, temperature=0.05  # CRW's released code: defaults of its options
test_cfg.propagation: radius=11.99, shape='circle'  # CRW's released code: distances below 12 of its cells
test_cfg.propagation: keep_ties=False  # CRW's released code: exactly as many
test_cfg.propagation: free_first=True, repeat_first=True  # CRW's released code: copies of the first frame
test_cfg.propagation: min_max=False, first_labels='bilinear', upsample='original'  # CRW's released code: masks

[values: fitted]
- test_cfg.choose_by {fit,test}_dataloader.dataset.pipeline test_cfg.probe
test_cfg: choose_by='rmse'  # our choice: the smallest error on patches
test_cfg.probe: standardize='once'  # our choice: as probes of labels
{fit,test}_dataloader.dataset: type='mmmim.NYUv2'  # our choice: NYUv2
fit_dataloader.dataset: split='train'
test_dataloader.dataset: split='test'
{fit,test}_dataloader.dataset.pipeline: mmmim.LoadImage, mmcv.Resize, mmmim.LoadDepth, mmpretrain.PackInputs
  # our choice: 336 x 448, the map at its own size
{fit,test}_dataloader.dataset.pipeline.1: scale=(448, 336), keep_ratio=False, interpolation='bicubic'
{fit,test}_dataloader.dataset.pipeline.2: unit=1e-3, high=10.0
{fit,test}_dataloader.dataset.pipeline.3: algorithm_keys=('gt_map',)

[normals: values]
- {fit,test}_dataloader.dataset.pipeline.2
test_cfg: choose_by='angle'  # our choice: the smallest angle on patches
{fit,test}_dataloader.dataset.pipeline.2: type='mmmim.LoadNormals', source='depth',
  camera=(518.8579, 519.4696, 325.5824, 253.7362), radius=4, residual=0.03  # NYUv2, colour camera; our choice: windows

[depth_scores] test_evaluator.0: low=1e-3, high=10.0, crop='eigen'  # Eigen et al. 2014: crop, up to 10 m
[normal_scores] test_evaluator.0: crop='eigen'  # our choice: the crop of the depths
[ridge] test_cfg.probe: type='mmmim.RidgeProbe', alpha=[10.0**i for i in range(-6, 3)]  # our choice: penalties
[knn_values] test_cfg.probe: type='mmmim.KNNRegressionProbe', k=[1, 3, 10, 30], distance=['cosine', 'l2']
  # our choice: CAPI's grid

[eval/depth_linear_nyuv2: values depth_scores ridge]
[eval/depth_knn_nyuv2: values depth_scores knn_values]
[eval/normals_linear_nyuv2: normals normal_scores ridge]
[eval/normals_knn_nyuv2: normals normal_scores knn_values]
"""
