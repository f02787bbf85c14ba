//! Commands about networks (monitor/hmp-cmds.c, net/net.c, net/slirp.c).

use serde_json::json;

use super::args::Args;
use super::qmp;
use super::session::Session;

type Done = Result<(), String>;

pub(crate) fn info_network(mon: &mut Session, _: &Args) -> Done {
    mon.print(&net::info_network());
    Ok(())
}

pub(crate) fn info_usernet(mon: &mut Session, _: &Args) -> Done {
    mon.print(&net::user::info_usernet());
    Ok(())
}

pub(crate) fn netdev_add(mon: &mut Session, args: &Args) -> Done {
    let text = args.word("netdev");
    if net::netdev_wants_help(text) {
        mon.print(&net::netdev_help());
        return Ok(());
    }
    net::netdev_init(text).map_err(|error| qmp::error(&error))
}

pub(crate) fn netdev_del(_: &mut Session, args: &Args) -> Done {
    qmp::carry_out("netdev_del", [("id", json!(args.word("id")))])
}

pub(crate) fn set_link(_: &mut Session, args: &Args) -> Done {
    qmp::carry_out("set_link", [("name", json!(args.word("name"))), ("up", json!(args.is_set("up")))])
}

pub(crate) fn announce_self(_: &mut Session, args: &Args) -> Done {
    let interfaces = args.text("interfaces").map(|list| list.split(',').collect::<Vec<_>>());
    // Those that QEMU's migration begins with.
    let times = [("initial", json!(50)), ("max", json!(550)), ("rounds", json!(5)), ("step", json!(100))];
    let [initial, max, rounds, step] = times;
    let id = ("id", json!(args.text("id")));
    qmp::carry_out("announce-self", [initial, max, rounds, step, ("interfaces", json!(interfaces)), id])
}

/// The netdev and the rule: either word may stand alone, and is the rule then.
fn forward(args: &Args) -> (Option<&str>, &str) {
    match args.text("arg2") {
        Some(rule) => (Some(args.word("arg1")), rule),
        None => (None, args.word("arg1")),
    }
}

pub(crate) fn hostfwd_add(_: &mut Session, args: &Args) -> Done {
    let (netdev, rule) = forward(args);
    net::user::hostfwd_add(netdev, rule).map_err(|error| error.message)
}

pub(crate) fn hostfwd_remove(mon: &mut Session, args: &Args) -> Done {
    let (netdev, rule) = forward(args);
    let removed = net::user::hostfwd_remove(netdev, rule).map_err(|error| error.message)?;
    mon.print(&format!(
        "host forwarding rule for {rule} {}\n",
        if removed { "removed" } else { "not found" }
    ));
    Ok(())
}
