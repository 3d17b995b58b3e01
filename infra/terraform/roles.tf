# Who may do what: jobs, analysts, stewards. Nobody else is given anything here.

# ---- jobs: read the archive, write tables and models ------------------------------------------

resource "aws_iam_role" "job" {
  name               = "bae-job"
  assume_role_policy = data.aws_iam_policy_document.pods.json
}

# only the two service accounts of cluster/base/accounts.yaml
data "aws_iam_policy_document" "pods" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = ["arn:aws:iam::${local.account}:oidc-provider/${var.oidc_provider}"]
    }
    condition {
      test     = "StringEquals"
      variable = "${var.oidc_provider}:sub"
      values   = ["system:serviceaccount:bae:bae-head", "system:serviceaccount:bae:bae-worker"]
    }
    condition {
      test     = "StringEquals"
      variable = "${var.oidc_provider}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

resource "aws_iam_policy" "job" {
  name   = "bae-job"
  policy = data.aws_iam_policy_document.job.json
}

data "aws_iam_policy_document" "job" {
  statement {
    sid       = "ReadArchive"
    actions   = ["s3:GetObject", "s3:ListBucket"]
    resources = [local.archive, "${local.archive}/*"]
  }
  statement {
    sid       = "WriteTablesAndModels"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = ["${local.tables}/*", "${local.models}/*"]
  }
  statement {
    sid       = "ListTablesAndModels"
    actions   = ["s3:ListBucket"]
    resources = [local.tables, local.models]
  }
  statement {
    sid       = "UseKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.bae.arn]
  }
}

resource "aws_iam_role_policy_attachment" "job" {
  role       = aws_iam_role.job.name
  policy_arn = aws_iam_policy.job.arn
}

# ---- analysts: cohort/ and nothing else ---------------------------------------------------------

resource "aws_iam_role" "analyst" {
  name               = "bae-analyst"
  assume_role_policy = data.aws_iam_policy_document.analysts.json
}

data "aws_iam_policy_document" "analysts" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "AWS"
      identifiers = var.analyst_principals
    }
  }
}

resource "aws_iam_role_policy" "analyst" {
  name   = "read-cohort"
  role   = aws_iam_role.analyst.id
  policy = data.aws_iam_policy_document.analyst.json
}

data "aws_iam_policy_document" "analyst" {
  statement {
    sid       = "ReadCohort"
    actions   = ["s3:GetObject"]
    resources = ["${local.tables}/tables/cohort/*"]
  }
  statement {
    sid       = "ListCohort"
    actions   = ["s3:ListBucket"]
    resources = [local.tables]
    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["tables/cohort/*"]
    }
  }
  statement {
    sid       = "Decrypt"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.bae.arn]
  }
}

# ---- stewards: may look up which scan a row is ---------------------------------------------------

resource "aws_iam_role" "steward" {
  name                 = "bae-steward"
  assume_role_policy   = data.aws_iam_policy_document.stewards.json
  max_session_duration = 3600
}

data "aws_iam_policy_document" "stewards" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "AWS"
      identifiers = var.steward_principals
    }
  }
}

resource "aws_iam_role_policy" "steward" {
  name   = "read-tables"
  role   = aws_iam_role.steward.id
  policy = data.aws_iam_policy_document.steward.json
}

data "aws_iam_policy_document" "steward" {
  statement {
    sid       = "ReadTables"
    actions   = ["s3:GetObject"]
    resources = ["${local.tables}/tables/cohort/*", "${local.tables}/tables/restricted/*"]
  }
  statement {
    sid       = "ListTables"
    actions   = ["s3:ListBucket"]
    resources = [local.tables]
    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["tables/*"]
    }
  }
  statement {
    sid       = "Decrypt"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.bae.arn]
  }
}
