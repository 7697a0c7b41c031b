# SemanticMIM, figure 6: 80 % masks, 39 of the 196 patches visible. The paper has a figure and publishes no numbers (not
# run here).
_base_ = '../beit_vitb16.py'

train_dataloader = dict(
    collate_fn=dict(masking=dict(num_visible=39)),
)
