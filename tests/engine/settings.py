"""Profiles of a few settings, and what is said of them."""

import tomllib

from engine.contract.problems import Problem
from engine.contract.profile import decode_profile


def problems_of(*settings: str) -> list[Problem]:
    """Of a profile with these settings, each written `section.name = value`."""
    profile = {"model": {"base": "base.safetensors"}, "data": {"folders": [{"path": "pictures"}]}}
    for setting in settings:
        for section, fields in tomllib.loads(setting).items():
            profile[section] = profile.get(section, {}) | fields
    return decode_profile(profile)[1]


def warned(*settings: str) -> dict[str, str]:
    problems = problems_of(*settings)
    assert all(problem.severity == "warning" and problem.remedy for problem in problems), problems
    return {problem.path: problem.text for problem in problems}
