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

-- One row per scan: of the newest object, scored by the newest model that scored it.
CREATE OR REPLACE VIEW latest_ages AS
WITH model AS (
    SELECT model_id, row_number() OVER (ORDER BY min(predicted_at), model_id) AS number
    FROM ages GROUP BY model_id),
-- Only a second object or a second model can be newer; most scans have neither.
newest AS (
    SELECT scan_id, max(object_version * 1000000 + number) AS best
    FROM ages JOIN model USING (model_id)
    WHERE object_version > 1 OR number > 1 GROUP BY scan_id)
SELECT ages.* FROM ages JOIN model USING (model_id)
LEFT JOIN newest ON newest.scan_id = ages.scan_id
WHERE best IS NULL OR best = object_version * 1000000 + number;

-- The gap is predicted minus chronological age; ages over 89 are stored as 90.
CREATE OR REPLACE VIEW age_gap_by_decade AS
SELECT model_id, sex, (floor(age_years / 10) * 10)::INTEGER AS decade_years,
       count(*) AS scans, avg(age_gap_years) AS mean_gap_years,
       stddev_samp(age_gap_years) AS sd_gap_years,
       avg(abs(age_gap_years)) AS mean_absolute_gap_years
FROM latest_ages WHERE age_gap_years IS NOT NULL
GROUP BY ALL ORDER BY ALL;
