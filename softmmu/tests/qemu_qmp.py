"""What a client that is QEMU's own says and hears, from the greeting to the end of the program."""

import asyncio
import contextlib
import sys

from qemu.qmp import EventListener, ExecuteError, QMPClient


async def refused(client, command, arguments, error_class, description):
    try:
        answer = await client.execute(command, arguments)
    except ExecuteError as error:
        assert (error.error_class, error.error.error.desc) == (error_class, description), error
    else:
        raise AssertionError(f"{command} was answered: {answer}")


def check_schema(schema, commands):
    entities = {entity["name"]: entity for entity in schema}
    assert len(entities) == len(schema), "each name is there once"
    assert {entity["name"] for entity in schema if entity["meta-type"] == "command"} == commands
    for entity in schema:
        names = [entity[key] for key in ("arg-type", "ret-type", "element-type", "tag-type") if key in entity]
        names += [member["type"] for key in ("members", "variants") for member in entity.get(key, [])
                  if isinstance(member, dict) and "type" in member]
        for name in names:
            assert name in entities, f"{entity['name']} names {name}"
    assert [entities[name]["meta-type"] for name in ("STOP", "SHUTDOWN")] == ["event", "event"]


async def main(path):
    client = QMPClient("test")
    await client.connect(path)
    assert client.greeting.QMP.version["qemu"]["major"] == 7
    assert await client.execute("query-status") == {"running": False, "singlestep": False, "status": "prelaunch"}

    unexpected = "Parameter 'nosuch' is unexpected"
    await refused(client, "query-status", {"nosuch": 1}, "GenericError", unexpected)
    await refused(client, "nosuch", None, "CommandNotFound", "The command nosuch has not been found")
    await refused(client, "qom-get", {"path": "/machine"}, "GenericError", "Parameter 'property' is missing")
    await refused(client, "qom-get", {"path": "/nosuch", "property": "type"}, "DeviceNotFound",
                  "Device '/nosuch' not found")

    commands = {command["name"] for command in await client.execute("query-commands")}
    check_schema(await client.execute("query-qmp-schema"), commands)

    events = EventListener()
    with client.listen(events):
        for command, event in (("cont", "RESUME"), ("stop", "STOP"), ("system_reset", "RESET")):
            assert await client.execute(command) == {}
            told = await events.get()
            assert told["event"] == event, told
            assert told["timestamp"]["seconds"] > 0, told
        assert (await client.execute("query-status"))["status"] == "paused"
        assert await client.execute("quit") == {}
        told = await events.get()
        assert told["event"] == "SHUTDOWN", told
        assert told["data"] == {"guest": False, "reason": "host-qmp-quit"}, told
    # The program may have hung up already.
    with contextlib.suppress(EOFError):
        await client.disconnect()
    print("done")


asyncio.run(main(sys.argv[1]))
