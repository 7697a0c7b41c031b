# Linear probe of Latent MIM on ImageNet-1k (arXiv 2407.15837, tables 5 and 8b): LARS with batch 16 384, 0.1 per 256
# images, 90 epochs, 10 of them warm-up. Of the poolings that the paper tries, CLS, the mean of the patches and the mean
# of the 10 greatest values of each channel, each has a head of its own, trained in the same steps.
#
# The numbers of the paper, top-1 of ViT-B/16: 72.0; MAE 67.8, SimMIM 56.7, ConMIM 39.3, data2vec 60.3, BEiT 56.7, MoCo
# v3 76.7, DINO 78.2, iBOT 79.5, SIM 76.4, CAE 68.6 (tables 5 and 12; not run here). Its probe is not released, and
# which pooling a number is of is not said. Our choices: the ten greatest are of each channel; batch norm, final norm
# and crops are MAE's. Encoders without CLS: --cfg-options model.features.cls=None. Another data set: MMMIM_DATA.
#
# Run: tools/dist_train.sh configs/eval/cls_linear_latent_mim.py 8 --pretrained CHECKPOINT
_base_ = './cls_linear_mae.py'

model = dict(features=dict(pooled='pooled', top10='top10'))
