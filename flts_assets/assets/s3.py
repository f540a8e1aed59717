"""dagster-aws' S3 resource, with a bound on every wait."""

from typing import Any

from dagster_aws.s3 import S3Resource
from pydantic import Field

from flts_assets.stores.s3_client import open_client

__all__ = ["S3"]


class S3(S3Resource):
    """An `S3Resource` whose client gives up a silent server (its own waits five times a minute)."""

    timeout_s: float = Field(default=20.0, description="Seconds of silence before giving up")

    def get_client(self) -> Any:
        """Raises EnvironmentValueError for an AWS_ENDPOINT_URL that is no address."""
        return open_client(
            self.timeout_s,
            unsigned=self.use_unsigned_session,
            profile_name=self.profile_name,
            region_name=self.region_name,
            endpoint_url=self.endpoint_url,
            use_ssl=self.use_ssl,
            verify=self.verify,
            aws_access_key_id=self.aws_access_key_id,
            aws_secret_access_key=self.aws_secret_access_key,
            aws_session_token=self.aws_session_token,
        )
