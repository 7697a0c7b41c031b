# SemanticMIM, figure 5: 16 proxies. The paper has a figure and publishes no numbers (not run here).
_base_ = '../beit_vitb16.py'

model = dict(backbone=dict(num_cls_tokens=16))
