# Two buckets of ours: versioned, encrypted with a key of ours, closed to the public and to plain HTTP.

resource "aws_kms_key" "bae" {
  description             = "bae: tables, models, keys"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = data.aws_iam_policy_document.key.json
}

# The account's own policies say who uses the key; the roles in roles.tf do.
data "aws_iam_policy_document" "key" {
  # checkov:skip=CKV_AWS_109:AWS' own default key policy: it hands the decision to IAM, of this account
  # checkov:skip=CKV_AWS_111:the same statement, the same reason
  # checkov:skip=CKV_AWS_356:in a key's policy "*" means this key
  statement {
    actions   = ["kms:*"]
    resources = ["*"]
    principals {
      type        = "AWS"
      identifiers = ["arn:aws:iam::${local.account}:root"]
    }
  }
}

resource "aws_s3_bucket" "tables" {
  # checkov:skip=CKV_AWS_144:one region by choice: patients' data stays where it is; the archive can be scored again
  # checkov:skip=CKV_AWS_18:reads are logged by CloudTrail data events, which hospitals run for the whole account
  # checkov:skip=CKV2_AWS_62:nothing waits for objects; the nightly job lists
  bucket = var.tables_bucket
}

resource "aws_s3_bucket" "models" {
  # checkov:skip=CKV_AWS_144:one region by choice
  # checkov:skip=CKV_AWS_18:reads are logged by CloudTrail data events
  # checkov:skip=CKV2_AWS_62:nothing waits for objects
  bucket = var.models_bucket
}

resource "aws_s3_bucket_versioning" "tables" {
  bucket = aws_s3_bucket.tables.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_versioning" "models" {
  bucket = aws_s3_bucket.models.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "tables" {
  bucket = aws_s3_bucket.tables.id
  rule {
    bucket_key_enabled = true
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.bae.arn
    }
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "models" {
  bucket = aws_s3_bucket.models.id
  rule {
    bucket_key_enabled = true
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.bae.arn
    }
  }
}

resource "aws_s3_bucket_public_access_block" "tables" {
  bucket                  = aws_s3_bucket.tables.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_public_access_block" "models" {
  bucket                  = aws_s3_bucket.models.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# jobs.maintain clears staging and replaced files by itself; this is for what it never saw. Thirty days
# is also how long an erased patient's rows can still be got back from old object versions.
resource "aws_s3_bucket_lifecycle_configuration" "tables" {
  bucket = aws_s3_bucket.tables.id
  rule {
    id     = "staging"
    status = "Enabled"
    filter {
      prefix = "tables/restricted/staging/"
    }
    expiration {
      days = 60
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
  rule {
    id     = "old-versions"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = 30
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "models" {
  bucket = aws_s3_bucket.models.id
  rule {
    id     = "old-versions"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = 365
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

data "aws_iam_policy_document" "tables_bucket" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [local.tables, "${local.tables}/*"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
  # whatever another policy of the account may grant
  statement {
    sid       = "RestrictedIsForJobsAndStewards"
    effect    = "Deny"
    actions   = ["s3:GetObject*", "s3:PutObject*", "s3:DeleteObject*"]
    resources = ["${local.tables}/tables/restricted/*"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "ArnNotEquals"
      variable = "aws:PrincipalArn"
      values = [
        aws_iam_role.job.arn, aws_iam_role.steward.arn,
        aws_iam_role.ray_head.arn, aws_iam_role.ray_worker.arn,
      ]
    }
  }
}

data "aws_iam_policy_document" "models_bucket" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [local.models, "${local.models}/*"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "tables" {
  bucket = aws_s3_bucket.tables.id
  policy = data.aws_iam_policy_document.tables_bucket.json
}

resource "aws_s3_bucket_policy" "models" {
  bucket = aws_s3_bucket.models.id
  policy = data.aws_iam_policy_document.models_bucket.json
}

# From the cluster's network S3 is reached through this door, and it leads to three buckets only: a job
# cannot carry scans into a bucket of somebody else's.
resource "aws_vpc_endpoint" "s3" {
  vpc_id          = var.vpc_id
  service_name    = "com.amazonaws.${var.region}.s3"
  route_table_ids = var.route_table_ids
  policy          = data.aws_iam_policy_document.door.json
}

data "aws_iam_policy_document" "door" {
  # checkov:skip=CKV_AWS_283:an endpoint's policy gives nothing, it narrows; the condition names this account
  statement {
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket", "s3:AbortMultipartUpload"]
    resources = flatten([for bucket in [local.archive, local.tables, local.models] : [bucket, "${bucket}/*"]])
    principals {
      type        = "AWS"
      identifiers = ["*"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:PrincipalAccount"
      values   = [local.account]
    }
  }
  # container images lie in a bucket of AWS' own
  statement {
    actions   = ["s3:GetObject"]
    resources = ["arn:aws:s3:::prod-${var.region}-starport-layer-bucket/*"]
    principals {
      type        = "AWS"
      identifiers = ["*"]
    }
  }
}
