"""Reviews over HTTP after the main job, and `hourz admin recompute-reputation` beside the running server."""

import json
import random

from harness import Person, Raw, Server, gig, run, scratch
from races import people


def completed(seeker, helper):
    one = seeker.post("/api/gigs", gig(), 201).json["id"]
    helper.post(f"/api/gigs/{one}/accept", None, 200)
    for status in ("IN_PROGRESS", "COMPLETED"):
        seeker.put(f"/api/gigs/{one}/status", {"status": status})
    return one


def test_both_review_and_the_scores_can_be_made_anew(server, base):
    def recompute():
        done = run("admin", "recompute-reputation", data_directory=server.directory)
        assert done.returncode == 0, done.stderr
        people, corrected = [int(word) for word in done.stdout.split() if word.isdigit()]
        assert people >= 2
        return corrected

    with Person(base, "Mali") as seeker, Person(base, "Somchai") as helper:
        one = completed(seeker, helper)
        assert seeker.get(f"/api/reviews/can-review/{one}").json["can_review"]
        review = seeker.post("/api/reviews", {"gig_id": one, "rating": 3, "comment": "ดี"}, 201)
        assert seeker.post("/api/reviews", {"gig_id": one, "rating": 3}, 409).json["code"] == "already_reviewed"
        helper.post("/api/reviews", {"gig_id": one, "rating": 5}, 201)
        assert helper.get("/api/users/me").json["reputation_score"] == 28 / 6
        assert recompute() == 0
        server.database().sql(f"UPDATE users SET reputation_score = 1, rating_sum = 1 WHERE id = '{helper.id}'")
        assert recompute() == 1
        assert recompute() == 0
        assert helper.get("/api/users/me").json["reputation_score"] == 28 / 6
        seeker.call("DELETE", review.headers["location"], status=204)
        me = helper.get("/api/users/me").json
        assert (me["reputation_score"], me["total_reviews"]) == (5, 0)
        told = seeker.get(f"/api/users/{seeker.id}/reputation").json
        assert told["reputation_score"] == told["computed_score"] == 5 and told["distribution"]["5"] == 1


def test_everybody_at_once_on_two_servers_leaves_no_drift(server):
    """Both directions of many gigs of one helper are reviewed at once, then changed and taken back at once, each asked of
    both servers: every review counts once, and the scores are what the reviews alone give."""
    with scratch() as folder:
        second = Server(f"{folder}/data", secret=server.secret(), **server.database().urls())
        try:
            helper, *seekers = people(server.base, 13)
            gigs = [completed(seeker, helper) for seeker in seekers]
            peers = [Raw(each.address()) for _ in range(48) for each in (server, second)]

            def ask(requests):
                """[(person, method, path, body)] at once; their statuses and bodies."""
                for peer, (who, *request) in zip(peers, requests):
                    peer.send(*request, Authorization=f"Bearer {who.token}")
                return [peer.read()[::2] for peer, _ in zip(peers, requests)]

            sides = [(seeker, one) for seeker, one in zip(seekers, gigs)] + [(helper, one) for one in gigs]
            posts = [(who, "POST", "/api/reviews", {"gig_id": one, "rating": n % 5 + 1}) for n, (who, one) in enumerate(sides)]
            told = ask(posts + posts[1:] + posts[:1])  # the second time of the other server
            assert sorted(status for status, _ in told) == [201] * len(posts) + [409] * len(posts), told
            made = {json.loads(body)["reviewer"]["id"] + json.loads(body)["gig_id"]: json.loads(body)["id"]
                    for status, body in told if status == 201}
            assert len(made) == len(posts)
            changes = []
            for n, (who, one) in enumerate(sides):
                path = f"/api/reviews/{made[who.id + one]}"
                changes.append((who, "PUT", path, {"rating": 3}) if n % 2 else (who, "DELETE", path, None))
                changes.append((who, "PUT", path, {"rating": 5}))
            random.Random(5).shuffle(changes)
            told = ask(changes + changes[::-1])
            assert {status for status, _ in told} <= {200, 204, 404}
            assert sum(status == 204 for status, _ in told) == len(sides) / 2
            for person in (helper, *seekers):
                ratings = [int(row[0]) for row in server.database().sql(
                    f"SELECT rating FROM reviews WHERE reviewee_id = '{person.id}'")]
                me = person.get("/api/users/me").json
                assert (me["total_reviews"], me["reputation_score"]) == (
                    len(ratings), (25 + sum(ratings)) / (5 + len(ratings))), ratings
            done = run("admin", "recompute-reputation", data_directory=server.directory)
            assert done.returncode == 0 and [int(word) for word in done.stdout.split() if word.isdigit()][1] == 0, done.stdout
        finally:
            second.close()
