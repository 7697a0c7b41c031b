# CAPI, table 1(b), model A0dd4: 90 % of the patches masked at random.
# Paper: k-NN mIoU on ADE20K 23.6, attentive probe on ImageNet-1k 76.4 (not run here).
_base_ = './vitl16.py'

train_dataloader = dict(
    collate_fn=dict(masking=dict(_delete_=True, type='mmmim.UniformMasking', mask_ratio=0.9, num_predicted=7))
)
