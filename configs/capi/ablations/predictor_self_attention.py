# CAPI, table 1(a), model Aa5a3 or A7d26: predictor with self-attention.
# Paper: k-NN mIoU on ADE20K 27.9, attentive probe on ImageNet-1k 77.7 (not run here).
# Our reading, as the details are published nowhere: 12 blocks of the width of the encoder on its output and on a mask
# token for each predicted patch.
_base_ = './vitl16.py'

model = dict(
    branches=dict(
        capi=dict(
            neck=dict(
                _delete_=True,
                type='mmmim.SelfAttentionPredictor',
                context_dim=1024,
                embed_dim=1024,
                depth=12,
                num_heads=16,
                positions='rope',
                norm='rms',
                norm_eps=1e-5,
                final_affine=False,
                bias=False,
                qkv_bias=False,
                init='capi',
                drop_path_rate=0.2,
            )
        )
    )
)
