"""A patient who collects it comes in the agreed time and shows the code of the hospital's app."""

from collections import Counter
from datetime import timedelta
from uuid import UUID

from schemas.delivery import HandOut
from services.sandbox.fates import COMES_AFTER_S, Fates
from services.sandbox.profile import Profile
from services.sandbox.robots.hospital import Hospital
from services.sandbox.robots.pharmacy import HAND_OUT, Pharmacies
from services.sandbox.scripts import Script
from services.sandbox.stage import Entry
from services.sandbox.world import World
from tests.unit.sandbox.test_robots import ORDER, TOKEN, Scene, assigned, entry, offer, smooth


def test_what_is_collected_is_handed_out_against_the_code(
    world: World, fates: Fates, scripts: list[Script]
) -> None:
    scene = Scene(world, fates, scripts)
    script, pharmacies = smooth(scene), Pharmacies(scene.stage)
    scene.post.answers[f"/v1/deliveries/{ORDER}/collection"] = {"code": "18560159"}
    scene.know(script)
    pharmacies.hear(offer(world))
    scene.later(minutes=5)
    ready = scene.clock.at + timedelta(hours=1)
    told = assigned(world, script)
    agreed = {**told.data, "tier": "pick_up", "not_before": ready.isoformat()}
    pharmacies.hear(entry(told.type, scene.clock.at, **agreed))
    pharmacies.hear(entry("delivery.ParcelReleased", scene.clock.at, attempt=1))
    scene.until(ready + timedelta(seconds=COMES_AFTER_S - 1))
    assert HAND_OUT not in [path for _, path, _ in scene.post.commands]
    scene.later(seconds=1)
    tenant, path, command = scene.post.commands[-1]
    assert (tenant, path) == ("chain-a", HAND_OUT)
    assert isinstance(command, HandOut)
    assert (command.code, command.token) == ("18560159", TOKEN)


def test_who_agreed_to_collect_may_stay_away(
    world: World, standard: Profile, scripts: list[Script]
) -> None:
    patient = standard.patient.model_copy(update={"stays_away": 1.0})
    away = Fates(standard.model_copy(update={"patient": patient}), 7)
    scene = Scene(world, away, scripts)
    script, pharmacies = smooth(scene), Pharmacies(scene.stage)
    scene.know(script)
    told = assigned(world, script)
    agreed = {**told.data, "tier": "pick_up", "not_before": scene.clock.at.isoformat()}
    pharmacies.hear(entry(told.type, scene.clock.at, **agreed))
    pharmacies.hear(entry("delivery.ParcelReleased", scene.clock.at, attempt=1))
    scene.later(hours=9)
    assert HAND_OUT not in [path for _, path, _ in scene.post.commands]


def test_a_patient_agrees_to_an_appointment_or_would_rather_collect(
    world: World, fates: Fates, scripts: list[Script]
) -> None:
    scene = Scene(world, fates, scripts)
    hospital, said = Hospital(scene.stage), []
    for options in (["scheduled", "pick_up", "end"], ["scheduled", "end"], ["pick_up", "end"]):
        for n, script in enumerate(scripts[:200]):
            order_id = UUID(int=n + 1)
            scene.stage.book.learn(order_id, script.number)
            asked = {"ask_id": str(order_id), "kind": "other_time", "options": options}
            hospital.hear(Entry("dispatch.PatientAsked", order_id, scene.clock.at, asked))
        scene.later(hours=1)
        answers = [getattr(command, "answer", "") for command in scene.post.noted()]
        said.append(Counter(answers))
        scene.post.commands.clear()
    both, brought, collected = said
    assert both["scheduled"] > both["pick_up"] > 20
    assert brought["scheduled"] == collected["pick_up"] == both["scheduled"] + both["pick_up"]
    assert both["end"] == brought["end"] == collected["end"] > 5


def test_nobody_comes_for_what_a_courier_brings(
    world: World, fates: Fates, scripts: list[Script]
) -> None:
    scene = Scene(world, fates, scripts)
    script, pharmacies = smooth(scene), Pharmacies(scene.stage)
    scene.know(script)
    pharmacies.hear(assigned(world, script))
    pharmacies.hear(entry("delivery.ParcelReleased", scene.clock.at, attempt=1))
    scene.later(hours=9)
    assert HAND_OUT not in [path for _, path, _ in scene.post.commands]
