# cls_sweep.py with CAPI's predictor pooling as the global feature (arXiv 2502.08769, table 5), for checkpoints of CAPI.
#
# The numbers of the paper, top-1 of ViT-L/14 pre-trained on LVD-142M: linear on ImageNet-1k, predictor 81.1, mean of
# the patches 77.1; iNaturalist 2021 69.6, 49.1 (MMMIM_DATA=inat2021); SUN397 77.4, 73.3 (MMMIM_DATA=sun397); attentive
# on ImageNet-1k 83.8 (not run here).
#
# Run: tools/dist_train.sh configs/eval/cls_sweep_predicted.py 8 --pretrained CHECKPOINT
_base_ = './cls_sweep.py'

model = dict(features=dict(cls='predicted', cls_avg_patch='predicted+pooled'))
