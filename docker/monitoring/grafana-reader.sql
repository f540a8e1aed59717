-- Who may read what the dashboard shows of Dagster's runs, and nothing else:
--   psql --dbname dagster --set password=… --file grafana-reader.sql
CREATE ROLE grafana LOGIN PASSWORD :'password';
GRANT CONNECT ON DATABASE :"DBNAME" TO grafana;
GRANT SELECT ON runs, run_tags, daemon_heartbeats TO grafana;
