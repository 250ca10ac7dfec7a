"""The least rights that a use of a bucket needs, in the form in which its owner grants them."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["gcs_roles", "s3_policy", "shown"]


def s3_policy(
    bucket: str, prefix: str, *, write: bool = False, acl: bool = False, partition: str = "aws"
) -> dict[str, Any]:
    """A policy of AWS Identity and Access Management for the keys of `bucket` that begin with `prefix`.

    Language: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
    """
    arn = f"arn:{partition}:s3:::{bucket}"
    listing: dict[str, Any] = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": arn}
    if prefix:
        listing["Condition"] = {"StringLike": {"s3:prefix": f"{prefix}*"}}
    written = ["s3:PutObject", "s3:PutObjectAcl"] if acl else ["s3:PutObject"]
    action: Any = ["s3:GetObject", *written] if write else "s3:GetObject"
    objects = {"Effect": "Allow", "Action": action, "Resource": f"{arn}/{prefix}*"}
    return {"Version": "2012-10-17", "Statement": [objects, listing]}


def gcs_roles(bucket: str, *, write: bool = False) -> dict[str, Any]:
    """The role on `bucket`, the permissions that are needed of it, and the command that grants it.

    Roles: https://cloud.google.com/storage/docs/access-control/iam-roles
    """
    role = "roles/storage.objectUser" if write else "roles/storage.objectViewer"
    permissions = ["storage.objects.get", "storage.objects.list"]
    permissions += ["storage.objects.create", "storage.objects.delete"] if write else []
    command = f"gcloud storage buckets add-iam-policy-binding gs://{bucket} --member=MEMBER --role={role}"
    return {"role": role, "permissions": permissions, "command": command}


def shown(policy: dict[str, Any]) -> list[str]:
    """A policy as lines to copy."""
    if "Statement" not in policy:
        return [policy["command"], f"({', '.join(policy['permissions'])})"]
    statements = ",\n    ".join(json.dumps(statement) for statement in policy["Statement"])
    return f'{{\n  "Version": "{policy["Version"]}",\n  "Statement": [\n    {statements}\n  ]\n}}'.splitlines()
