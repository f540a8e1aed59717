"""The sensor that relays events to the broker, where one is configured."""

import dagster as dg

from flts_assets.automation.relay import relay
from flts_assets.logs import event_log
from flts_assets.settings import KafkaSettings, Settings
from flts_assets.stores.events import KafkaBroker

__all__ = ["relay_sensors"]

INTERVAL_S = 5


def relay_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """One, or none where no broker is configured."""
    return [] if settings.kafka is None else [_relay_events(settings.kafka)]


def _relay_events(kafka: KafkaSettings) -> dg.SensorDefinition:
    @dg.sensor(
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Tells Kafka of processed data, trainings and promotions, from Dagster's own event log: at"
            " least once, in order. The cursor is the id of the last event that the broker acknowledged."
        ),
    )
    def relay_events(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        done = relay(
            context.instance,
            lambda: KafkaBroker(kafka),
            int(context.cursor or 0),
            event_log(context.log, sensor="relay_events"),
        )
        return dg.SensorResult(skip_reason=dg.SkipReason(str(done)), cursor=str(done.cursor))

    return relay_events
