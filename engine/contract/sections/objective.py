"""What the network is asked to say, and how errors count."""

from typing import Annotated, Literal

from msgspec import Struct

from engine.contract.sections.common import OVER_TIMESTEPS, Point, about

PredictionType = Literal["v_prediction", "epsilon", "flow"]
NullCondition = Literal["empty_prompt", "zeros"]


class Objective(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the network is asked to say, and how errors count."""

    prediction_type: Annotated[
        PredictionType,
        about(
            "Prediction type",
            "What the base checkpoint predicts. NoobAI-XL v-pred and Aozora: v_prediction; SDXL base: epsilon.",
        ),
    ] = "v_prediction"
    zero_terminal_snr: Annotated[
        bool,
        about("Zero terminal SNR", "The last timestep is pure noise (arXiv 2305.08891). Needs v_prediction."),
    ] = True
    loss: Annotated[
        Literal["mse", "huber", "smooth_l1"],
        about(
            "Loss",
            "How an error becomes a loss. huber and smooth_l1, as torch defines them, count large ones unsquared.",
        ),
    ] = "mse"
    huber_delta: Annotated[
        float,
        about(
            "Huber delta",
            "Where huber and smooth_l1 (its beta) turn from squared to straight.",
            "latent units",
            ge=1e-4,
            le=100,
        ),
    ] = 0.1
    loss_weight: Annotated[
        Literal["min_snr", "none", "debiased", "debiased_sd_scripts", "debiased_onetrainer", "debiased_aozora"],
        about(
            "Loss weight",
            "By signal-to-noise ratio. min_snr: arXiv 2303.09556; debiased: 2310.08442, 1/sqrt(snr) for epsilon; both "
            "in the form right for the prediction type. As programs define it: debiased_sd_scripts 1/sqrt(snr), v "
            "1/(snr+1); debiased_onetrainer 1/sqrt(snr), v 1/sqrt(snr+1); debiased_aozora min(1, gamma/sqrt(snr)).",
        ),
    ] = "min_snr"
    min_snr_gamma: Annotated[
        float,
        about(
            "Min-SNR gamma",
            "Timesteps with a higher signal-to-noise ratio count as if they had this one; also the gamma of "
            "debiased_aozora.",
            ge=0.01,
            le=100,
        ),
    ] = 5.0
    weight_floor: Annotated[
        float,
        about(
            "Least weight",
            "No timestep counts less than this, before the weight curve. At zero terminal SNR, min_snr and debiased "
            "count the last one as nothing without it.",
            ge=0,
            le=1,
        ),
    ] = 0.0
    weight_curve: Annotated[
        tuple[Point, ...],
        about(
            "Weight curve",
            "Further factors on the loss by timestep, drawn: [timestep 0 to 999, factor] points. Empty: 1 everywhere.",
            kind="points",
            axis=OVER_TIMESTEPS,
            examples=[[[0, 1.0], [500, 0.4]]],
        ),
    ] = ()
    noise_offset: Annotated[
        float,
        about(
            "Noise offset",
            "Shifts each channel's noise as a whole, to learn dark and bright; superfluous at zero terminal SNR.",
            ge=0,
            le=1,
        ),
    ] = 0.0
    ip_noise_gamma: Annotated[
        float,
        about(
            "Input perturbation",
            "Extra noise on the network's input only, not in the target (arXiv 2301.11706).",
            ge=0,
            le=1,
        ),
    ] = 0.0
    timesteps: Annotated[
        Literal["uniform", "noisier_half", "logit_normal", "log_snr_laplace", "beta", "curve"],
        about(
            "Timesteps",
            "Where on the noise scale to train. noisier_half: 500 to 999 (residual shifting); curve: as drawn.",
        ),
    ] = "uniform"
    logit_mean: Annotated[
        float,
        about("Logit mean", "Of logit_normal (arXiv 2403.03206): above 0, noisier timesteps.", ge=-10, le=10),
    ] = 0.0
    logit_std: Annotated[
        float, about("Logit deviation", "Of logit_normal: the smaller, the narrower.", gt=0, le=10)
    ] = 1.0
    laplace_scale: Annotated[
        float,
        about("Laplace scale", "Of log_snr_laplace: p(t) falls by e for each of these in log SNR.", gt=0, le=100),
    ] = 1.0
    beta_a: Annotated[float, about("Beta a", "Of beta: above 1, fewer of the cleanest timesteps.", gt=0, le=100)] = 1.0
    beta_b: Annotated[float, about("Beta b", "Of beta: above 1, fewer of the noisiest timesteps.", gt=0, le=100)] = 1.0
    timestep_curve: Annotated[
        tuple[Point, ...],
        about(
            "Timestep curve",
            "Of curve: [timestep 0 to 999, how often] points; only their proportions count.",
            kind="points",
            axis=OVER_TIMESTEPS,
            examples=[[[0, 1.0], [500, 0.4]]],
        ),
    ] = ()
    stratified: Annotated[
        bool,
        about(
            "Stratified",
            "Spread each update's timesteps evenly over the density, one from each equal share: a steadier loss.",
        ),
    ] = False
    conditional_dropout: Annotated[
        float,
        about(
            "Conditional dropout",
            "How often the caption is replaced by the null condition; guidance needs some.",
            "share",
            ge=0,
            le=1,
        ),
    ] = 0.1
    null_condition: Annotated[
        NullCondition,
        about(
            "Null condition",
            'What stands for no caption, also in previews: the encoded "", as ComfyUI does, or zeros, as A1111 does.',
        ),
    ] = "empty_prompt"
