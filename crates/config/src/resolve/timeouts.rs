//! How long a call may take where its deployment says nothing.

use crate::model::ModelTimeouts;
use crate::settings::{Config, Timeouts};
use crate::view::View;

pub(super) fn timeouts(root: &View<'_>, config: &mut Config) {
    let section = root.get("tollgate.timeouts");
    let timeouts = &mut config.timeouts;
    timeouts.first_byte = section.at("first_byte_s").seconds();
    for (name, field) in [
        ("connect_s", &mut timeouts.connect),
        ("idle_s", &mut timeouts.idle),
        ("total_s", &mut timeouts.total),
    ] {
        if let Some(span) = section.at(name).seconds() {
            *field = span;
        }
    }
}

pub(super) fn default_timeouts(root: &View<'_>, timeouts: &Timeouts) -> ModelTimeouts {
    let total = root.get("router_settings.timeout").seconds();
    let total = total
        .or_else(|| root.get("litellm_settings.request_timeout").seconds())
        .unwrap_or(timeouts.total);
    ModelTimeouts {
        total,
        total_stream: root
            .get("router_settings.stream_timeout")
            .seconds()
            .unwrap_or(total),
        ..ModelTimeouts::of(timeouts)
    }
}
