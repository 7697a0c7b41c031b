"""Fitted protocols of whole images: DINO (arXiv 2104.14294, section 4.1), Latent MIM (arXiv 2407.15837, table 1)."""

TABLE = r"""
[images]
model.backbone: type='mmmim.PretrainedBackbone', out_indices=(-1,), frozen=True  # DINO 4.1: frozen features
test_cfg: held_out=0.1  # CAPI (arXiv 2502.08769), appendix: chosen on a tenth of the training images
{fit,test}_dataloader.dataset.pipeline: mmmim.LoadImage, mmpretrain.ResizeEdge, mmpretrain.CenterCrop,
  mmpretrain.PackInputs  # DINO 4.1: central 224 px, no augmentation
{fit,test}_dataloader.dataset.pipeline.1: scale=256, edge='short', interpolation='bicubic'
{fit,test}_dataloader.dataset.pipeline.2: crop_size=224
{fit,test}_dataloader.dataset: type='mmmim.ImageFolder', with_label=True, section='imagenet-1k'  # DINO 4.1: ImageNet

[eval/cls_knn_imagenet: images]
model: features='pooled'  # CAPI, table 5: average pooling; our choice, of every encoder
test_cfg: choose_by=None  # DINO 4.1: each number of neighbours is reported
test_cfg.probe: type='mmmim.WeightedKNNProbe', k=[10, 20, 100, 200], temperature=0.07, leave_one_out=False
test_evaluator.0: topk=(1, 5)  # released code of DINO

[eval/cls_nn_imagenet: eval/cls_knn_imagenet]
model: features='pooled_raw'  # released code of Latent MIM: no final norm
test_cfg.probe: k=[1], leave_one_out=True  # Latent MIM, table 1: nearest neighbour in the test set
test_evaluator.0: topk=(1,)

[eval/cls_logreg_imagenet: images]
model: features='pooled'  # our choice, of every encoder
test_cfg: choose_by='aAcc'
test_cfg.probe: type='mmmim.LogisticRegressionProbe', c=[10 ** (-6 + 11 * i / 7) for i in range(8)], max_iter=1000,
  tolerance=1e-12, standardize='once'  # CAPI, appendix: eight penalties from 1e-6 to 1e5, L-BFGS
test_evaluator.0: topk=(1,)  # our choice

[eval/cls_logreg_fewshot_imagenet: eval/cls_logreg_imagenet]
- fit_dataloader.dataset
fit_dataloader.dataset: type='mmmim.FewShot', shots=16, seed=1  # Latent MIM, table 7: 16 images of each class
fit_dataloader.dataset.dataset.pipeline: mmmim.LoadImage, mmpretrain.ResizeEdge, mmpretrain.CenterCrop,
  mmpretrain.PackInputs  # our choice: as the test images
fit_dataloader.dataset.dataset.pipeline.1: scale=256, edge='short', interpolation='bicubic'
fit_dataloader.dataset.dataset.pipeline.2: crop_size=224
fit_dataloader.dataset.dataset: type='mmmim.ImageFolder', with_label=True, section='imagenet-1k'
"""
