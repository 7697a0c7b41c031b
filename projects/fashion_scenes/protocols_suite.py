# Six protocols of the papers on FashionScenes, each with features that every encoder has: the average of the patches,
# or the patches themselves.
_top1 = 'accuracy/top1'
protocols = dict(
    knn=dict(
        title='k-NN',
        measures='A vote of the 20 nearest training images.',
        config='eval/cls_knn_fashion',
        score=f'k_20/{_top1}',
    ),
    linear_lars=dict(
        title='linear, LARS',
        measures='BatchNorm and a linear layer, trained by LARS (MAE, Latent MIM).',
        config='eval/cls_linear_mae_fashion',
        options={'model.features.cls': 'pooled'},
        score=_top1,
    ),
    linear_adamw=dict(
        title='linear at a block, AdamW',
        measures='LayerNorm and a linear layer on the third block, trained by AdamW (SemanticMIM).',
        config='eval/cls_linear_semantic_mim_fashion',
        options={'model.features.cls': None},
        score=_top1,
    ),
    attentive=dict(
        title='attentive',
        measures='Attention over the patches and a linear layer, the best of 30 rates and weight decays (CAPI).',
        config='eval/cls_attentive_fashion',
        score=_top1,
    ),
    sweep=dict(
        title='sweep',
        measures='The best of linear and attentive heads, 60 of them (CAPI).',
        config='eval/cls_sweep_fashion',
        options={'model.features.cls': None, 'model.features.cls_avg_patch': None},
        score=_top1,
    ),
    finetuning=dict(
        title='fine-tuning',
        measures='The encoder is trained on with a linear layer (MAE).',
        config='eval/cls_finetune_fashion',
        score=_top1,
    ),
)
