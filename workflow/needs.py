"""What the job of a page asks for: cores; of a cluster memory, time and GPUs, of which one machine takes no notice."""

ASKED = {  # GB and hours at most, at the first try; chosen with room to spare, not measured on a cluster
    "1_data_curation": (16, 24),  # downloads included
    "2_embedding_extraction": (16, 24),
    "4_robustness": (16, 12),
    "5_saliency": (16, 12),
}
OTHERS = 8, 4
NETWORKS = ("2_embedding_extraction", "4_robustness", "5_saliency")  # stages that run networks


def cores(stage: str, cluster: bool) -> int:
    """Cores of a page's job. On one machine two pages that keep one core busy go side by side."""
    return 2 if cluster or stage in ASKED else 1


def of_page(stage: str, gpus: int) -> dict:
    """Resources of a page's job, in the words of Snakemake; twice as much memory and time at the second try."""
    memory, hours = ASKED.get(stage, OTHERS)
    asked = {
        "mem_mb": lambda wildcards, attempt: 1000 * memory * attempt,
        "runtime": lambda wildcards, attempt: 60 * hours * attempt,  # minutes
    }
    return asked | ({"gpu": gpus} if gpus and stage in NETWORKS else {})
