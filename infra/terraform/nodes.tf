# Machines for the EKS cluster: the head's stay, the workers' come and go. The cluster's own
# autoscaler (Karpenter or cluster-autoscaler) adds nodes for the pods that Ray's asks for.

resource "aws_iam_role" "node" {
  name               = "bae-node"
  assume_role_policy = data.aws_iam_policy_document.machines.json
}

data "aws_iam_policy_document" "machines" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each = toset([
    "AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryReadOnly",
  ])
  role       = aws_iam_role.node.name
  policy_arn = "arn:aws:iam::aws:policy/${each.key}"
}

# One hop: pods cannot ask the node for its own credentials.
resource "aws_launch_template" "node" {
  name = "bae-node"
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_size = 150
      volume_type = "gp3"
      encrypted   = true
    }
  }
}

locals {
  groups = {
    head = { capacity = "ON_DEMAND", types = ["m7i.xlarge"], ami = "AL2023_x86_64_STANDARD", min = 1, max = 2 }
    cpu  = { capacity = "SPOT", types = ["m7i.2xlarge", "m6i.2xlarge"], ami = "AL2023_x86_64_STANDARD", min = 0, max = 4 }
    gpu  = { capacity = "SPOT", types = ["g5.2xlarge"], ami = "AL2023_x86_64_NVIDIA", min = 0, max = 4 }
  }
}

resource "aws_eks_node_group" "bae" {
  for_each        = local.groups
  cluster_name    = var.cluster_name
  node_group_name = "bae-${each.key}"
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = var.subnet_ids
  capacity_type   = each.value.capacity
  instance_types  = each.value.types
  ami_type        = each.value.ami

  scaling_config {
    min_size     = each.value.min
    desired_size = each.value.min
    max_size     = each.value.max
  }
  launch_template {
    id      = aws_launch_template.node.id
    version = aws_launch_template.node.latest_version
  }
  dynamic "taint" {
    for_each = each.key == "gpu" ? [1] : []
    content {
      key    = "nvidia.com/gpu"
      value  = "present"
      effect = "NO_SCHEDULE"
    }
  }
  lifecycle {
    ignore_changes = [scaling_config[0].desired_size]
  }
}
