# What `ray up cluster/aws.yaml` needs, for those without Kubernetes: profiles, a security group, keys.

resource "aws_iam_role" "ray_worker" {
  name               = "bae-ray-worker"
  assume_role_policy = data.aws_iam_policy_document.machines.json
}

resource "aws_iam_role" "ray_head" {
  name               = "bae-ray-head"
  assume_role_policy = data.aws_iam_policy_document.machines.json
}

resource "aws_iam_role_policy_attachment" "ray_job" {
  for_each   = { worker = aws_iam_role.ray_worker.name, head = aws_iam_role.ray_head.name }
  role       = each.value
  policy_arn = aws_iam_policy.job.arn
}

resource "aws_iam_instance_profile" "ray_worker" {
  name = "bae-ray-worker"
  role = aws_iam_role.ray_worker.name
}

resource "aws_iam_instance_profile" "ray_head" {
  name = "bae-ray-head"
  role = aws_iam_role.ray_head.name
}

# Each machine fetches both keys as it starts. Their values are put in by hand:
#   aws secretsmanager put-secret-value --secret-id bae/ray-token --secret-string file://ray-token
resource "aws_secretsmanager_secret" "key" {
  # checkov:skip=CKV2_AWS_57:a new pseudonym key makes every known patient a new one; the token changes with the cluster
  for_each   = toset(["ray-token", "pseudonym-key"])
  name       = "bae/${each.key}"
  kms_key_id = aws_kms_key.bae.arn
}

resource "aws_iam_role_policy" "ray_keys" {
  for_each = { worker = aws_iam_role.ray_worker.id, head = aws_iam_role.ray_head.id }
  name     = "read-keys"
  role     = each.value
  policy   = data.aws_iam_policy_document.keys.json
}

data "aws_iam_policy_document" "keys" {
  statement {
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [for secret in aws_secretsmanager_secret.key : secret.arn]
  }
}

# The head starts and ends the workers; it may touch machines of this cluster only.
resource "aws_iam_role_policy" "ray_head" {
  name   = "start-workers"
  role   = aws_iam_role.ray_head.id
  policy = data.aws_iam_policy_document.start_workers.json
}

data "aws_iam_policy_document" "start_workers" {
  # checkov:skip=CKV_AWS_356:EC2's Describe calls know no resources
  statement {
    sid       = "Look"
    actions   = ["ec2:DescribeInstances", "ec2:DescribeImages", "ec2:DescribeInstanceTypes", "ec2:DescribeSubnets", "ec2:DescribeSecurityGroups", "ec2:DescribeKeyPairs"]
    resources = ["*"]
  }
  statement {
    sid     = "Start"
    actions = ["ec2:RunInstances"]
    resources = concat(
      [for id in var.subnet_ids : "arn:aws:ec2:${var.region}:${local.account}:subnet/${id}"],
      [aws_security_group.ray.arn],
      [for kind in ["instance", "volume", "network-interface", "key-pair"] : "arn:aws:ec2:${var.region}:${local.account}:${kind}/*"],
      ["arn:aws:ec2:${var.region}::image/*"],
    )
  }
  statement {
    sid       = "Tag"
    actions   = ["ec2:CreateTags"]
    resources = ["arn:aws:ec2:${var.region}:${local.account}:*/*"]
    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["RunInstances"]
    }
  }
  statement {
    sid       = "End"
    actions   = ["ec2:TerminateInstances", "ec2:CreateTags"]
    resources = ["arn:aws:ec2:${var.region}:${local.account}:instance/*"]
    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/ray-cluster-name"
      values   = ["bae"]
    }
  }
  statement {
    sid       = "GiveWorkersTheirRole"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.ray_worker.arn]
  }
}

resource "aws_security_group" "ray" {
  # checkov:skip=CKV2_AWS_5:attached by Ray, from cluster/aws.yaml
  name        = "bae-ray"
  description = "Ray among itself, and ssh from the administrators network; the dashboard goes through ssh"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "itself" {
  security_group_id            = aws_security_group.ray.id
  description                  = "Ray among itself"
  referenced_security_group_id = aws_security_group.ray.id
  ip_protocol                  = "-1"
}

resource "aws_vpc_security_group_ingress_rule" "ssh" {
  security_group_id = aws_security_group.ray.id
  description       = "ray up, ray attach, ray dashboard"
  cidr_ipv4         = var.admin_cidr
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
}

resource "aws_vpc_security_group_egress_rule" "itself" {
  security_group_id            = aws_security_group.ray.id
  description                  = "Ray among itself"
  referenced_security_group_id = aws_security_group.ray.id
  ip_protocol                  = "-1"
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.ray.id
  description       = "S3, Secrets Manager, EC2, the image registry"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}
