# SPDX-License-Identifier: Apache-2.0
# Airflow with this provider, the DAGs and the configuration: one image for all services of docker-compose.yml.
FROM apache/airflow:3.3.2-python3.11

USER root
# A new volume takes its owner from the folder that it is mounted on.
RUN mkdir -p /opt/airflow/logs /opt/airflow/auth /var/lib/wan-sandbox \
    && chown -R airflow:root /opt/airflow/logs /opt/airflow/auth /var/lib/wan-sandbox

USER airflow
COPY --chown=airflow:root pyproject.toml README.md LICENSE NOTICE /opt/wan/
COPY --chown=airflow:root airflow_provider_wan /opt/wan/airflow_provider_wan
RUN pip install --no-cache-dir "/opt/wan[parquet,sandbox]" "apache-airflow==${AIRFLOW_VERSION}" && pip check
# In the image, so that the permissions of a checkout's files do not matter and each host runs the same.
COPY --chown=airflow:root deploy/init.py deploy/check_job.py /opt/airflow/deploy/
COPY --chown=airflow:root deploy/config /opt/airflow/config
COPY --chown=airflow:root dags /opt/airflow/dags
