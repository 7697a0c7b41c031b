"""Without labels: TokenCut (arXiv 2202.11539), LOST (arXiv 2109.14279), DINO (arXiv 2104.14294), clusters."""

TABLE = r"""
[discovery]
model.backbone: type='mmmim.PretrainedBackbone', out_indices=(-1,), frozen=True
  # released code: the last block, images of their own size, padded with zeros to whole patches
model: fit='pad'
test_dataloader.dataset.pipeline: mmmim.LoadImage, mmpretrain.PackInputs
test_dataloader.dataset.pipeline.1: meta_keys=['img_path', 'ori_shape', 'gt_bboxes']

[tokencut] test_cfg.probe: type='mmmim.TokenCut', features='keys', tau=0.2, eps=1e-5  # TokenCut, section 4: settings
[lost] test_cfg.probe: type='mmmim.LOST', features='keys', k=100  # LOST, section 4: settings
[dinoseg] test_cfg.probe: type='mmmim.DINOSeg', attention='cls', head=4, mass=0.6  # released code of LOST

[boxes_voc2007]
test_dataloader.dataset: type='mmmim.VOCBoxes'  # LOST, table 1: VOC07, all objects of trainval
test_dataloader.dataset: data_root='data/VOCdevkit/VOC2007'
[boxes_voc2012: boxes_voc2007] test_dataloader.dataset: data_root='data/VOCdevkit/VOC2012'  # LOST, table 1: VOC12
[boxes_coco20k]
test_dataloader.dataset: type='mmmim.COCOBoxes', data_root='data/coco'  # LOST, table 1: COCO_20k

[clusters]
model.backbone: type='mmmim.PretrainedBackbone', out_indices=(-1,), frozen=True  # our choice: figures without settings
model: resize=480, fit='round'
test_cfg.probe: type='mmmim.PatchClusters', clusters=[2, 4, 8, 'classes'], linkage='ward'
test_dataloader.dataset.pipeline: mmmim.LoadImage, mmmim.LoadLabelMap, mmseg.PackSegInputs

[eval/discovery_tokencut_voc2007: discovery tokencut boxes_voc2007]
[eval/discovery_tokencut_voc2012: discovery tokencut boxes_voc2012]
[eval/discovery_tokencut_coco20k: discovery tokencut boxes_coco20k]
[eval/discovery_lost_voc2007: discovery lost boxes_voc2007]
[eval/discovery_lost_voc2012: discovery lost boxes_voc2012]
[eval/discovery_lost_coco20k: discovery lost boxes_coco20k]
[eval/discovery_dinoseg_voc2007: discovery dinoseg boxes_voc2007]
[eval/discovery_dinoseg_voc2012: discovery dinoseg boxes_voc2012]
[eval/discovery_dinoseg_coco20k: discovery dinoseg boxes_coco20k]
[eval/cluster_ade20k: clusters] test_dataloader.dataset: type='mmseg.ADE20KDataset'  # our choice
[eval/cluster_voc2012: clusters] test_dataloader.dataset: type='mmseg.PascalVOCDataset'  # our choice
"""
