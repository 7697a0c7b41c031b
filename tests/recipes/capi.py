"""CAPI, "Cluster and Predict Latent Patches" (arXiv 2502.08769)."""

TABLE = r"""
[capi/vitl14]
global_batch_size=16384  # table 6: batch size
train_cfg: max_iters=500_000  # table 8, M5e2e: iterations
optim_wrapper: dtype='bfloat16'  # table 6: optimiser, learning rate, weight decay, training dtype
$optimizer: type='mmengine.AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1
$rules.clustering: match=r'target_generator\.', lr_mult=0.5, decay_mult=0.1
  # table 6: clustering lr, patch embed lr, norm layer wd; its clustering decays by 0.01, biases by nothing
$rules.patch_bias: match=r'patch_embed\.bias$', lr_mult=0.2, decay_mult=0.0
$rules.patch_weight: match=r'patch_embed\.weight$', lr_mult=0.2
$rules.norms: match=r'norm\d\.weight$', decay_mult=0.1
$schedule: type='mmmim.truncated_cosine', warmup_ratio=0.1, truncation=0.8
  # table 6: linear warm-up of 10 % and a cosine truncated by 20 %
$momentum: type='mmmim.truncated_cosine', start=1.0, base=0.999, final=1.0, warmup_ratio=0.1, truncation=0.8
  # table 6: teacher momentum 1 - lr, which has the schedule of the learning rate
model.backbone: type='mmmim.ViT', img_size=224, patch_size=14, embed_dim=1024, depth=24, num_heads=16,
  num_cls_tokens=0, num_registers=16, positions='rope', norm='rms', norm_eps=1e-5, final_affine=False, bias=False,
  qkv_bias=False, init='capi'
  # section 4.1 and table 6: ViT-L/14 at 224 px, 16 registers, RoPE, RMS norm of 1e-5, no biases, no layer scale
model.backbone: drop_path_rate=0.2  # table 6: stochastic depth
$branches.capi.target_generator: type='mmmim.OnlineClustering', in_dim=1024, num_prototypes=16384, positional=True,
  target_temperature=0.06, temperature=0.12, iterations=3
  # section 3.2 and table 6: prototypes, temperatures, three iterations of positional Sinkhorn-Knopp
$branches.capi.neck: type='mmmim.CrossAttentionPredictor', context_dim=1024, embed_dim=1024, depth=12, num_heads=16,
  drop_path_rate=0.2  # section 3.3 and table 1(f): cross-attention, 12 blocks of width 1024
$branches.capi.head: type='mmmim.PrototypeHead', in_dim=1024, num_prototypes=16384, temperature=0.12
  # table 6: prototypes, student temperature; section 3.2: a linear head
model: teacher=['backbone', 'branches.capi.neck', 'branches.capi.head']
  # section 3.3: the teacher is the average of the student
$collate: patch_size=14  # table 6: patches of 14 px
$masking: type='mmmim.InverseBlockMasking', mask_ratio=0.65, predict_ratio=0.05, roll=True
  # table 6: inverse block and roll, 65 %; 7 predicted of the masked, 8 by the formula of the released code
$images: type='mmmim.ImageFolder', data_root='data/imagenet22k'  # table 8, M5e2e: ImageNet-22k
$pipeline: mmmim.LoadImage, mmmim.RandomResizedCrop, mmpretrain.RandomFlip, mmpretrain.PackInputs
  # table 6: RRCrop, HFlip
$pipeline.1: scale=224  # table 6: image size
$pipeline.1: crop_ratio_range=(0.6, 1.0), interpolation='bicubic'  # table 1(d), [0.6, 1]; released code: bicubic
$pipeline.2: prob=0.5  # table 6: HFlip

[capi/vitl14_in1k: capi/vitl14] $images: data_root='data/imagenet/train'  # table 8, M2d34
[capi/vitl14_places205: capi/vitl14] $images: data_root='data/places205/train'  # table 8, M8319

[capi/vitb14: capi/vitl14]
model.backbone: embed_dim=768, num_heads=12, depth=12  # table 8, Mc2dd
$branches.capi.neck: context_dim=768, embed_dim=768, depth=6, num_heads=12
$branches.capi.{target_generator,head}: in_dim=768

[capi/vits14: capi/vitb14]
model.backbone: embed_dim=384, num_heads=6  # table 8, M8c4d
$branches.capi.neck: context_dim=384, embed_dim=384, num_heads=6
$branches.capi.{target_generator,head}: in_dim=384
$optimizer: lr=2e-3  # table 8, M8c4d: lr and momentum
$momentum: base=0.998

[capi/ablations/vitl16: capi/vitl14]
{model.backbone,$collate}: patch_size=16  # table 8: patches of the ablations
$masking: predict_ratio=None, num_predicted=7  # table 6: 7 predicted, which table 8 does not change
train_cfg: max_iters=100_000  # table 8: iterations of the ablations
$optimizer: lr=2e-3  # table 8: lr and momentum of the ablations
$momentum: base=0.996

[capi/ablations/predictor_fused: capi/ablations/vitl16]
- $branches.capi.neck
model.backbone: fused=True  # table 1(a): one network
$branches.capi.neck: type='mmmim.PickPredicted', context_dim=1024

[capi/ablations/predictor_self_attention: capi/ablations/vitl16]
$branches.capi.neck: type='mmmim.SelfAttentionPredictor', positions='rope'  # table 1(a): self-attention
$branches.capi.neck: norm='rms', norm_eps=1e-5, final_affine=False, init='capi'  # blocks of table 6
$branches.capi.neck: bias=False, qkv_bias=False  # table 6: no biases

[capi/ablations/masking_random: capi/ablations/vitl16]
- $masking.{roll,predict_ratio}
$masking: type='mmmim.UniformMasking', mask_ratio=0.9  # table 1(b), table 8: 90 %, no roll

[capi/ablations/masking_block: capi/ablations/vitl16]
- $masking.{roll,predict_ratio}
$masking: type='mmmim.BlockMasking'  # table 1(b)

[capi/ablations/masking_inverse_block: capi/ablations/vitl16] $masking: roll=False  # table 1(b)
[capi/ablations/head_mlp: capi/ablations/vitl16] $branches.capi.head: mlp_dims=(2048, 2048, 256)  # table 1(c): MLP head

[capi/ablations/loss_ibot: capi/ablations/vitl16]
- $rules.clustering $branches.capi.target_generator.{in_dim,positional,target_temperature,temperature,iterations}
$branches.capi.target_generator: type='mmmim.TeacherAssignments', head='branches.capi.head'
  # table 1(c): targets of the head of the teacher
$branches.capi.head: mlp_dims=(2048, 2048, 256)  # table 1(c): MLP heads
$rules: clustering=None  # there is nothing to cluster

[capi/ablations/loss_ijepa: capi/ablations/loss_ibot]
- $branches.capi.target_generator $branches.capi.head
$branches.capi.target_generator: type='mmmim.LatentTarget', in_dim=1024  # table 1(c): features
$branches.capi.head: type='mmmim.RegressionHead', loss='huber'  # table 1(c): Huber

[capi/ablations/predictor_5x1536: capi/ablations/vitl16]
$branches.capi.neck: depth=5, embed_dim=1536  # table 1(f)
$branches.capi.head: in_dim=1536

[capi/ablations/predictor_21x768: capi/ablations/vitl16]
$branches.capi.neck: depth=21, embed_dim=768  # table 1(f)
$branches.capi.head: in_dim=768

[capi/ablations/positions_learnable: capi/ablations/vitl16]
{model.backbone,$branches.capi.neck}: positions='learnable'  # table 1: positions
$branches.capi.neck: grid=(14, 14)

[capi/ablations/sinkhorn_standard: capi/ablations/vitl16] $branches.capi.target_generator: positional=False  # table 1
[capi/ablations/registers_0: capi/ablations/vitl16] model.backbone: num_registers=0  # table 1: registers
[capi/ablations/crop_100: capi/ablations/vitl16] $pipeline.1: crop_ratio_range=(1.0, 1.0)  # table 1(d)
[capi/ablations/crop_20: capi/ablations/vitl16] $pipeline.1: crop_ratio_range=(0.2, 1.0)  # table 1(d)
[capi/ablations/ratio_55: capi/ablations/vitl16] $masking: mask_ratio=0.55  # table 1(e)
[capi/ablations/ratio_75: capi/ablations/vitl16] $masking: mask_ratio=0.75  # table 1(e)
[capi/ablations/iterations_25k: capi/ablations/vitl16] train_cfg: max_iters=25_000  # figure 6
[capi/ablations/iterations_50k: capi/ablations/vitl16] train_cfg: max_iters=50_000  # figure 6
[capi/ablations/iterations_200k: capi/ablations/vitl16] train_cfg: max_iters=200_000  # figure 6
[capi/ablations/data_in1k: capi/ablations/vitl16] $images: data_root='data/imagenet/train'  # table 1: data
[capi/ablations/data_lvd142m: capi/ablations/vitl16] $images: data_root='data/lvd142m'  # table 1: data

[capi/ablations/prototypes_1024: capi/ablations/vitl16]
$branches.capi.{target_generator,head}: num_prototypes=1024  # table 1: prototypes
[capi/ablations/prototypes_2048: capi/ablations/vitl16]
$branches.capi.{target_generator,head}: num_prototypes=2048  # table 1: prototypes
[capi/ablations/prototypes_4096: capi/ablations/vitl16]
$branches.capi.{target_generator,head}: num_prototypes=4096  # table 1: prototypes
[capi/ablations/prototypes_8192: capi/ablations/vitl16]
$branches.capi.{target_generator,head}: num_prototypes=8192  # table 1: prototypes
[capi/ablations/prototypes_32768: capi/ablations/vitl16]
$branches.capi.{target_generator,head}: num_prototypes=32768  # table 1: prototypes
"""
