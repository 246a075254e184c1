//! Where and how clients are answered: `general_settings`.

use std::net::IpAddr;

use super::secrets::{master_from, must_fit_a_header, secret_key};
use crate::settings::{Config, DefaultModels, Demands, Metrics};
use crate::view::View;
use crate::{Access, Network};

pub(super) fn server(root: &View<'_>, config: &mut Config) {
    let general = root.at("general_settings");
    let server = &mut config.server;
    let host = general.at("host");
    if let Some(text) = host.text() {
        if text != "localhost" && text.parse::<IpAddr>().is_err() {
            host.error("is not an address such as 127.0.0.1 or 0.0.0.0");
        }
        server.host = text;
    }
    if let Some(port) = general.at("port").port() {
        server.port = port;
    }
    let master = general.at("master_key");
    server.master_key = if master.is_set() {
        master.secret()
    } else {
        master_from(root.context().env)
    };
    if let Some(key) = master.secret() {
        must_fit_a_header(&master, &key);
        if !key.expose().starts_with("sk-") {
            master.error("must begin with sk-");
        }
    }
    server.models_change = general.at("store_model_in_db").bool().unwrap_or(true);
    server.secret_key = secret_key(root);
    server.always_include_stream_usage = general
        .at("always_include_stream_usage")
        .bool()
        .unwrap_or(false);
    server.cost_in_stream_usage = root
        .get("litellm_settings.include_cost_in_streaming_usage")
        .bool()
        == Some(true);
    metrics(root, &general, &mut server.metrics);
    let header = |name: &str| {
        let view = general.at(name);
        let text = view.text()?.to_ascii_lowercase();
        let is_token = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        if !is_token {
            view.error("is not a header name");
        }
        Some(text)
    };
    server.key_header = header("litellm_key_header_name");
    server.user_header = header("user_header_name");
    let set = |name: &str| general.at(name).bool() == Some(true);
    server.demands = Demands {
        user: set("enforce_user_param"),
        params: general.at("enforced_params").texts(),
        no_tags: set("reject_clientside_metadata_tags"),
    };
    server.blocks_robots = set("block_robots");
    server.access = access(&general);
    server.default_models = DefaultModels {
        completion: general.at("completion_model").text(),
        embedding: general.at("embedding_model").text(),
        moderation: general.at("moderation_model").text(),
        image: general.at("image_generation_model").text(),
    };
}

fn access(general: &View<'_>) -> Access {
    let nobody = |list: &View<'_>| {
        if list.is_set() && list.items().is_empty() {
            list.error("an empty list would answer nobody; leave it out to answer everybody");
        }
    };
    let routes = |name: &str| {
        let list = general.at(name);
        if name == "allowed_routes" {
            nobody(&list);
        }
        for view in list.items() {
            if view.text().is_some_and(|route| !route.starts_with('/')) {
                view.error("expected a route, such as /chat/completions or /key/*");
            }
        }
        list.texts()
    };
    let ips = general.at("allowed_ips");
    nobody(&ips);
    let addresses = ips.items().into_iter().filter_map(|view| {
        let found = Network::of(&view.text()?);
        if found.is_none() {
            view.error(
                "expected an IP address, such as 10.1.2.3, or a network, such as 10.0.0.0/8",
            );
        }
        found
    });
    let forwarded = general.at("use_x_forwarded_for");
    if forwarded.bool() == Some(true) && !ips.is_set() {
        forwarded.warn("has no effect without allowed_ips");
    }
    Access {
        addresses: addresses.collect(),
        forwarded: forwarded.bool() == Some(true),
        routes: routes("allowed_routes"),
        admin_routes: routes("admin_only_routes"),
    }
}

fn metrics(root: &View<'_>, general: &View<'_>, metrics: &mut Metrics) {
    let path = general.at("prometheus_metrics_url");
    if let Some(text) = path.text() {
        let text = text.trim_end_matches('/');
        if !text.starts_with('/') || text.contains(['?', '#', '{', '}', '*']) {
            path.error("expected a path, such as /metrics");
        }
        metrics.path = Some(text.to_owned());
    }
    if general.at("enable_prometheus_metrics").bool() == Some(false) {
        metrics.path = None;
        if path.is_set() {
            path.warn("has no effect: enable_prometheus_metrics is false");
        }
    }
    metrics.needs_key = root
        .get("litellm_settings.require_auth_for_metrics_endpoint")
        .bool()
        == Some(true);
}
