# What surrounds a cluster on AWS: buckets, who may touch them, machines, a budget.
# The hospital's network, its EKS cluster and its archive are taken as they are.

terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

provider "aws" {
  region = var.region
  default_tags {
    tags = { project = "bae" }
  }
}

data "aws_caller_identity" "here" {}

variable "region" {
  type    = string
  default = "eu-central-1"
}

variable "archive_bucket" {
  description = "The hospital's bucket of scans; only read."
  type        = string
}

variable "tables_bucket" {
  description = "Made here; holds tables/restricted and tables/cohort."
  type        = string
}

variable "models_bucket" {
  description = "Made here; holds model folders and torchvision's ImageNet files."
  type        = string
}

variable "cluster_name" {
  description = "The EKS cluster that KubeRay runs in."
  type        = string
}

variable "oidc_provider" {
  description = "That cluster's OIDC provider, without https://."
  type        = string
}

variable "vpc_id" {
  type = string
}

variable "subnet_ids" {
  description = "Private subnets."
  type        = list(string)
}

variable "route_table_ids" {
  description = "Of those subnets."
  type        = list(string)
}

variable "admin_cidr" {
  description = "From where `ray up` reaches its machines; only needed without Kubernetes."
  type        = string
}

variable "analyst_principals" {
  description = "ARNs (of SSO roles, say) that may become the analyst."
  type        = list(string)
}

variable "steward_principals" {
  description = "ARNs that may become the steward: read restricted/, where a scan leads to a person."
  type        = list(string)
}

variable "monthly_budget_usd" {
  type    = number
  default = 500
}

variable "budget_email" {
  type = string
}

locals {
  account = data.aws_caller_identity.here.account_id
  tables  = "arn:aws:s3:::${var.tables_bucket}"
  models  = "arn:aws:s3:::${var.models_bucket}"
  archive = "arn:aws:s3:::${var.archive_bucket}"
}

output "job_role_arn" {
  description = "For cluster/base/accounts.yaml."
  value       = aws_iam_role.job.arn
}

output "ray_up" {
  description = "For cluster/aws.yaml."
  value = {
    head           = aws_iam_instance_profile.ray_head.arn
    worker         = aws_iam_instance_profile.ray_worker.arn
    security_group = aws_security_group.ray.id
  }
}
