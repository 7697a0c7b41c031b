# CAPI, table 1(b), model A9b4a: a block of 65 % of the patches is masked.
# Paper: k-NN mIoU on ADE20K 25.6, attentive probe on ImageNet-1k 79.9 (not run here).
_base_ = './vitl16.py'

train_dataloader = dict(
    collate_fn=dict(masking=dict(_delete_=True, type='mmmim.BlockMasking', mask_ratio=0.65, num_predicted=7))
)
