-- The views that analysts ask, for DuckDB with its delta extension:
--
--   duckdb -cmd "SET VARIABLE tables = 's3://research/tables'" -init infra/views.sql
--
-- In Python, `bae.tables.connect("s3://research/tables")` gives the same views without any
-- extension, hides a run that is only half published, and can show an older version.
-- Keys and credentials come from the AWS_* environment; readers need cohort/ only.

INSTALL delta;
LOAD delta;
CREATE OR REPLACE SECRET storage (TYPE s3, PROVIDER credential_chain);

CREATE OR REPLACE VIEW ages AS FROM delta_scan(getvariable('tables') || '/cohort/ages');
CREATE OR REPLACE VIEW boxes AS FROM delta_scan(getvariable('tables') || '/cohort/boxes');
CREATE OR REPLACE VIEW heatmaps AS FROM delta_scan(getvariable('tables') || '/cohort/heatmaps');

-- One row per scan and model: of the newest object that is still in the archive.
CREATE OR REPLACE VIEW current_ages AS
SELECT ages.* FROM ages LEFT JOIN (
    SELECT scan_id, max(object_version) AS last FROM ages
    WHERE object_version > 1 AND removed_at IS NULL GROUP BY scan_id) AS changed USING (scan_id)
WHERE removed_at IS NULL AND object_version = coalesce(last, object_version);

-- One row per scan: of these the newest model's.
CREATE OR REPLACE VIEW latest_ages AS
WITH model AS (
    SELECT model_id, row_number() OVER (ORDER BY min(predicted_at), model_id) AS number
    FROM ages GROUP BY model_id),
-- Only a second model can be newer; most scans have none.
newest AS (
    SELECT scan_id, max(number) AS best FROM current_ages JOIN model USING (model_id)
    WHERE number > 1 GROUP BY scan_id)
SELECT current_ages.* FROM current_ages JOIN model USING (model_id)
LEFT JOIN newest USING (scan_id)
WHERE best IS NULL OR best = number;

CREATE OR REPLACE VIEW latest_boxes AS
FROM boxes SEMI JOIN latest_ages USING (scan_id, model_id, object_version);
CREATE OR REPLACE VIEW latest_heatmaps AS
FROM heatmaps SEMI JOIN latest_ages USING (scan_id, model_id, object_version);

-- The gap is predicted minus chronological age; ages over 89 are stored as 90. Groups of fewer
-- than five people are left out.
CREATE OR REPLACE VIEW age_gap_by_decade AS
SELECT model_id, sex, (floor(age_years / 10) * 10)::INTEGER AS decade_years,
       count(*) AS scans, avg(age_gap_years) AS mean_gap_years,
       stddev_samp(age_gap_years) AS sd_gap_years,
       avg(abs(age_gap_years)) AS mean_absolute_gap_years
FROM latest_ages WHERE age_gap_years IS NOT NULL
GROUP BY ALL HAVING count(DISTINCT patient_key) >= 5 ORDER BY ALL;
