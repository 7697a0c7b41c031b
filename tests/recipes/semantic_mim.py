"""SemanticMIM (arXiv 2406.10673): BEiT and MaskFeat, with and without proxies; combinations of our own."""

TABLE = r"""
[baseline]
global_batch_size=2048  # table 2
train_cfg: max_iters=300 * 625  # section 4.1: 300 epochs of 625 iterations
optim_wrapper: dtype='bfloat16'  # table 2: Adam; float16 in the released code, bfloat16 here
$optimizer: type='mmengine.AdamW', betas=(0.9, 0.999), weight_decay=0.05
$schedule: type='mmmim.truncated_cosine', truncation=1.0  # table 2: cosine
model.backbone: type='mmmim.ViT', img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12,
  positions='learnable', extra_positions=True, fused=True
  # section 4.1: ViT-B/16 at 224 px; released code: learned positions, also of CLS; baselines see mask tokens
$collate: patch_size=16  # section 4.1
$masking: type='mmmim.UniformMasking', num_visible=117  # section 4.1: baselines mask 40 %
$images: type='mmmim.ImageFolder', data_root='data/imagenet/train'  # section 4.1
$pipeline.1: scale=224, interpolation='bicubic'  # section 4.1; released code: bicubic
$pipeline.2: prob=0.5  # table 2: flips

[beit]
$optimizer: lr=1.5e-3  # table 2: peak learning rate
optim_wrapper: clip_norm=3.0  # table 2: gradient clipping
$schedule: start=1e-4, final=1e-5 / 1.5e-3, warmup_ratio=10 / 300
  # table 2: 10 epochs of warm-up, minimum 1e-5; released code: from 1e-4 of the peak
$rules.no_decay: match=r'\.bias$|norm\d?\.weight$|scale\d\.weight$|extra_tokens$|positions\.', decay_mult=0.0
  # released code: of the learned vectors only the mask token decays
model.backbone: drop_path_rate=(0.0, 0.1)  # table 2: stochastic depth; released code: growing
model.backbone: qkv_bias='qv', layer_scale=0.1, init='trunc_normal_rescaled'
  # released code: biases of q and v, layer scale, initialisation
$pipeline: mmmim.LoadImage, mmmim.RandomResizedCrop, mmpretrain.RandomFlip, mmpretrain.ColorJitter,
  mmpretrain.PackInputs  # table 2: crops, flips, colour jitter
$pipeline.1: crop_ratio_range=(0.08, 1.0)  # table 2: crop ratio
$pipeline.3: brightness=0.4, contrast=0.4, saturation=0.4  # table 2: colour jitter

[maskfeat]
$optimizer: lr=1.6e-3  # table 2: peak learning rate
optim_wrapper: clip_norm=0.02  # table 2: gradient clipping
$schedule: start=1e-6, final=1e-6 / 1.6e-3, warmup_ratio=30 / 300
  # table 2: 30 epochs of warm-up, minimum 1e-6; released code: from 1e-6 of the peak
$rules.no_decay: match=r'\.bias$|norm\d?\.weight$|mask_token$', decay_mult=0.0
  # released code: CLS and positions decay, the mask token does not
model.backbone: init='trunc_normal'  # released code
$pipeline: mmmim.LoadImage, mmmim.RandomResizedCrop, mmpretrain.RandomFlip, mmpretrain.PackInputs
  # table 2: crops and flips
$pipeline.1: crop_ratio_range=(0.5, 1.0)  # table 2: crop ratio

[beit/vitb16: baseline beit]
$branches.tokens.target_generator: type='mmmim.TokenizerTarget', patch_size=16  # section 3.3: tokens of DALL-E
$branches.tokens.target_generator.tokenizer: type='mmmim.DalleTokenizer', num_tokens=8192
$branches.tokens.neck: type='mmmim.PickPredicted', context_dim=768, out_dim=8192, init='trunc_normal'  # section 3.3
$branches.tokens.head: type='mmmim.CrossEntropyHead'  # section 3.3: cross-entropy

[maskfeat/vitb16: baseline maskfeat]
$branches.hog.target_generator: type='mmmim.HOGTarget', patch_size=16  # section 3.3: histograms
$branches.hog.neck: type='mmmim.PickPredicted', context_dim=768, out_dim=108, init='trunc_normal'  # section 3.3
$branches.hog.head: type='mmmim.RegressionHead'  # released code: squared error

[proxies]
model.backbone: num_cls_tokens=8  # section 4.1: 8 proxies
model.backbone: fused=False, final_norm=False  # equation 3: the encoder sees no mask tokens
$branches.semantic.neck: type='mmmim.ProxyReconstruction', context_dim=768, depth=12, num_heads=12
  # equations 3 and 4: a block beside each of the encoder
$masking: num_visible=78  # section 4.1: 60 % masked

[semantic_mim/beit_vitb16: baseline beit proxies]
$branches.semantic.target_generator: type='mmmim.TokenizerTarget', patch_size=16  # section 3.3: tokens of DALL-E
$branches.semantic.target_generator.tokenizer: type='mmmim.DalleTokenizer', num_tokens=8192
$branches.semantic.head: type='mmmim.CrossEntropyHead'  # section 3.3: cross-entropy
$branches.semantic.neck: out_dim=8192, qkv_bias='qv', layer_scale=0.1, init='trunc_normal_rescaled',
  drop_path_rate=(0.0, 0.1)  # blocks of the encoder

[semantic_mim/maskfeat_vitb16: baseline maskfeat proxies]
$branches.semantic.target_generator: type='mmmim.HOGTarget', patch_size=16  # section 3.3: histograms
$branches.semantic.head: type='mmmim.RegressionHead'  # released code: squared error
$branches.semantic.neck: out_dim=108, init='trunc_normal'  # blocks of the encoder

[semantic_mim/mae_vitb16_proxy: mae/vitb16]
- $branches.pixels.neck $masking
model.backbone: num_cls_tokens=8, final_norm=False  # a combination of our own
$branches.pixels.neck: type='mmmim.ProxyReconstruction', context_dim=768, depth=12, num_heads=12, out_dim=768,
  init='mae'
$masking: type='mmmim.UniformMasking', num_visible=78

[semantic_mim/capi_vitb14_proxy: capi/vitb14]
- $branches.capi.neck
model.backbone: num_cls_tokens=8, num_registers=0  # a combination of our own
model: teacher=['backbone']
$branches.capi.neck: type='mmmim.ProxyReconstruction', context_dim=768, depth=12, num_heads=12, positions='rope',
  norm='rms', norm_eps=1e-5, final_affine=False, bias=False, qkv_bias=False, init='capi', drop_path_rate=0.2

[semantic_mim/ablations/proxies_1: semantic_mim/beit_vitb16] model.backbone: num_cls_tokens=1  # figure 5
[semantic_mim/ablations/proxies_2: semantic_mim/beit_vitb16] model.backbone: num_cls_tokens=2  # figure 5
[semantic_mim/ablations/proxies_4: semantic_mim/beit_vitb16] model.backbone: num_cls_tokens=4  # figure 5
[semantic_mim/ablations/proxies_16: semantic_mim/beit_vitb16] model.backbone: num_cls_tokens=16  # figure 5
[semantic_mim/ablations/proxies_32: semantic_mim/beit_vitb16] model.backbone: num_cls_tokens=32  # figure 5
[semantic_mim/ablations/proxies_64: semantic_mim/beit_vitb16] model.backbone: num_cls_tokens=64  # figure 5
[semantic_mim/ablations/ratio_40: semantic_mim/beit_vitb16] $masking: num_visible=117  # figure 6
[semantic_mim/ablations/ratio_50: semantic_mim/beit_vitb16] $masking: num_visible=98  # figure 6
[semantic_mim/ablations/ratio_70: semantic_mim/beit_vitb16] $masking: num_visible=58  # figure 6
[semantic_mim/ablations/ratio_75: semantic_mim/beit_vitb16] $masking: num_visible=49  # figure 6
[semantic_mim/ablations/ratio_80: semantic_mim/beit_vitb16] $masking: num_visible=39  # figure 6
"""
